//! The floor that touches the machine: huge pages, prefetch, vector compares, the rings of network devices. All unsafe
//! code of the crate stands here, behind functions that no argument can misuse.
#![allow(unsafe_code)]

mod arena;
mod block;
#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
mod epoll;
#[cfg(target_os = "linux")]
mod frames;
mod lanes;
#[cfg(target_os = "linux")]
mod limits;
mod line;
mod lines;
#[cfg(target_os = "linux")]
mod link;
mod memory;
#[cfg(target_os = "linux")]
mod netns;
#[cfg(target_os = "linux")]
mod packet;
#[cfg(target_os = "linux")]
mod poll;
mod ports;
mod prefetch;
#[cfg(target_os = "linux")]
mod receive;
mod region;
#[cfg(target_os = "linux")]
pub mod socket;
#[cfg(target_os = "linux")]
mod tap;
#[cfg(target_os = "linux")]
mod thread;
#[cfg(target_os = "linux")]
mod tun;
mod turn;
mod wide;
#[cfg(target_os = "linux")]
pub mod xdp;

pub use arena::Arena;
pub use block::Block;
#[cfg(target_os = "linux")]
pub use epoll::{Epoll, Interest, Ready};
#[cfg(target_os = "linux")]
pub use frames::{Frames, Got};
#[cfg(target_os = "linux")]
pub use limits::raise_open_files;
pub use line::Line;
pub use lines::Lines;
#[cfg(target_os = "linux")]
pub use link::{forbid_merging, index_of, set_mtu, set_up};
pub use memory::huge_pages_allowed;
#[cfg(all(test, target_os = "linux"))]
pub(crate) use netns::tests::own_names;
#[cfg(target_os = "linux")]
pub use netns::{Namespace, within};
#[cfg(target_os = "linux")]
pub use packet::{
    Filter, Instruction, PacketOptions, PacketSocket, PlainSocket, complete_checksum, set_filter,
};
#[cfg(target_os = "linux")]
pub use poll::{MOST as MOST_POLLED, Wake, poll};
pub use prefetch::{prefetch, prefetch_index, prefetch_two};
#[cfg(target_os = "linux")]
pub use receive::{receive_patience, receive_room};
pub use region::Region;
#[cfg(target_os = "linux")]
pub use tap::Tap;
#[cfg(target_os = "linux")]
pub use thread::{cores, hasten, pin};
#[cfg(target_os = "linux")]
pub use tun::Tun;
#[cfg(all(test, target_os = "linux"))]
pub(crate) use tun::tests::wait;
pub use turn::{Blocks, Turned};
#[cfg(test)]
pub(crate) use wide::every;
pub use wide::{Base, Wide, Work, widest};
