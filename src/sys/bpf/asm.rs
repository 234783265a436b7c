//! A tiny assembler of the kernel's eBPF: the few instructions that our programs need, and jumps to labels.

use std::io;

/// A register. R0 holds results, R1 to R5 arguments that calls and [`Asm::load_network`] destroy, R6 to R9 are kept, R10
/// is the frame pointer and only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R6 = 6,
    R7,
    R8,
    R9,
    R10,
}

/// How much a load takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 32 bits.
    Word = 0x00,
    /// 16 bits.
    Half = 0x08,
    /// 8 bits.
    Byte = 0x10,
}

/// A comparison of the low 32 bits of a register with a number, both without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum If {
    Equal = 0x10,
    Above = 0x20,
    Differs = 0x50,
    Below = 0xa0,
}

/// A place in a program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// One instruction as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

// Classes, modes and operations of `linux/bpf_common.h` and `linux/bpf.h`.
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const STX: u8 = 0x03;
const ALU32: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
const IND: u8 = 0x40;
const MEM: u8 = 0x60;
const DOUBLE: u8 = 0x18;
const REGISTER: u8 = 0x08;
const ADD: u8 = 0x00;
const AND: u8 = 0x50;
const MOV: u8 = 0xb0;
const END_TO_BE: u8 = 0xd8;
const JGT: u8 = 0x20;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// The number of a 64-bit load is the descriptor of a map.
const PSEUDO_MAP_FD: u8 = 1;

/// A program that grows.
#[derive(Default)]
pub struct Asm {
    code: Vec<Instruction>,
    /// Where each label stands, once it does.
    places: Vec<Option<usize>>,
    /// Instructions whose offset is still to be filled in, each with where it leads.
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, number: i32) {
        let to = to as u8;
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        self.code.push(Instruction { code, registers, offset, number });
    }

    /// `to = from`, all 64 bits.
    pub fn copy(&mut self, to: Reg, from: Reg) {
        self.push(ALU64 | MOV | REGISTER, to, from as u8, 0, 0);
    }

    /// `to = number`, with its sign.
    pub fn set(&mut self, to: Reg, number: i32) {
        self.push(ALU64 | MOV, to, 0, 0, number);
    }

    /// `to += number`.
    pub fn add(&mut self, to: Reg, number: i32) {
        self.push(ALU64 | ADD, to, 0, 0, number);
    }

    /// `to &= mask`, the high 32 bits become zero.
    pub fn mask(&mut self, to: Reg, mask: u32) {
        self.push(ALU32 | AND, to, 0, 0, mask.cast_signed());
    }

    /// `to = *(from + offset)`, in the machine's byte order.
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(LDX | MEM | size as u8, to, from as u8, offset, 0);
    }

    /// `*(to + offset) = from`, in the machine's byte order.
    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.push(STX | MEM | size as u8, to, from as u8, offset, 0);
    }

    /// R0 = what the packet has at `at + offset`, in network order; R6 must be the socket buffer. Destroys R1 to R5, and
    /// ends the program with 0 where the packet has no such bytes.
    pub fn load_network(&mut self, size: Size, at: Reg, offset: i32) {
        self.push(LD | IND | size as u8, Reg::R0, at as u8, 0, offset);
    }

    /// What was loaded in the machine's byte order becomes what network order says; a byte stays.
    pub fn network_to_host(&mut self, size: Size, register: Reg) {
        let bits = match size {
            Size::Word => 32,
            Size::Half => 16,
            Size::Byte => return,
        };
        self.push(ALU32 | END_TO_BE, register, 0, 0, bits);
    }

    /// `to` = the map of this descriptor.
    pub fn load_map(&mut self, to: Reg, map: i32) {
        self.push(LD | DOUBLE, to, PSEUDO_MAP_FD, 0, map);
        self.push(0, Reg::R0, 0, 0, 0);
    }

    /// R0 = what a helper of the kernel gives for R1 to R5.
    pub fn call(&mut self, helper: i32) {
        self.push(JMP | CALL, Reg::R0, 0, 0, helper);
    }

    /// Ends the program with R0.
    pub fn exit(&mut self) {
        self.push(JMP | EXIT, Reg::R0, 0, 0, 0);
    }

    /// A new label, which must be placed once.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label stands before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    /// Goes on at the label.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JMP, Reg::R0, 0, 0, 0);
    }

    /// Goes on at the label if the comparison holds.
    pub fn jump_if(&mut self, register: Reg, condition: If, number: u32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JMP32 | condition as u8, register, 0, 0, number.cast_signed());
    }

    /// Goes on at the label if `a > b`, all 64 bits.
    pub fn jump_if_above(&mut self, a: Reg, b: Reg, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JMP | JGT | REGISTER, a, b as u8, 0, 0);
    }

    /// The program. An error if a jump leads nowhere or further than an instruction can say.
    pub fn finish(mut self) -> io::Result<Vec<Instruction>> {
        for (at, label) in self.jumps {
            let place = self.places[label.0].and_then(|to| to.checked_sub(at + 1));
            let Some(offset) = place.and_then(|o| i16::try_from(o).ok()) else {
                return Err(io::Error::other(format!("the jump at {at} leads back, nowhere or too far")));
            };
            self.code[at].offset = offset;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_find_their_labels_and_say_when_they_cannot() {
        let mut a = Asm::default();
        let (near, end) = (a.label(), a.label());
        a.jump_if(Reg::R0, If::Equal, 7, near);
        a.jump(end);
        a.place(near);
        a.set(Reg::R0, -1);
        a.place(end);
        a.exit();
        let code = a.finish().unwrap();
        assert_eq!(code.iter().map(|i| i.offset).collect::<Vec<_>>(), [1, 1, 0, 0]);
        assert_eq!(code[0].code, 0x16);
        assert_eq!((code[2].code, code[2].number), (0xb7, -1));
        assert_eq!(code[3].code, 0x95);

        let mut a = Asm::default();
        let nowhere = a.label();
        a.jump(nowhere);
        assert!(a.finish().is_err());
        let mut a = Asm::default();
        let far = a.label();
        a.jump(far);
        (0..40_000).for_each(|_| a.exit());
        a.place(far);
        assert!(a.finish().is_err());
    }
}
