//! The floor that touches the machine: huge pages, prefetch, vector compares. All unsafe code of the crate stands here,
//! behind functions that no argument can misuse.
#![allow(unsafe_code)]

mod arena;
mod block;
mod lanes;
mod line;
mod lines;
mod memory;
mod ports;
mod prefetch;
#[cfg(target_os = "linux")]
mod receive;
mod region;
mod turn;
mod wide;

pub use arena::Arena;
pub use block::Block;
pub use line::Line;
pub use lines::Lines;
pub use memory::huge_pages_allowed;
pub use prefetch::{prefetch, prefetch_index, prefetch_two};
#[cfg(target_os = "linux")]
pub use receive::{receive_patience, receive_room};
pub use region::Region;
pub use turn::{Blocks, Turned};
#[cfg(test)]
pub(crate) use wide::every;
pub use wide::{Base, Wide, Work, widest};
