//! The floor that touches the machine: huge pages, prefetch, vector compares. All unsafe code of the crate stands here,
//! behind functions that no argument can misuse.
#![allow(unsafe_code)]

mod arena;
mod block;
#[cfg(target_os = "linux")]
pub mod bpf;
pub mod frames;
mod lanes;
mod line;
mod lines;
mod memory;
mod ports;
mod prefetch;
mod region;
mod turn;
mod wide;
#[cfg(target_os = "linux")]
pub mod xdp;

pub use arena::Arena;
pub use block::Block;
pub use line::Line;
pub use lines::Lines;
pub use memory::huge_pages_allowed;
pub use prefetch::{prefetch, prefetch_index, prefetch_two};
pub use region::Region;
pub use turn::{Blocks, Turned};
#[cfg(test)]
pub(crate) use wide::every;
pub use wide::{Base, Wide, Work, widest};
