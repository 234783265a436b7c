//! The floor that touches the machine: huge pages, prefetch, vector compares. All unsafe code of the crate stands here,
//! behind functions that no argument can misuse.
#![allow(unsafe_code)]

mod arena;
mod lanes;
mod line;
mod memory;
mod ports;
mod prefetch;
mod region;
mod wide;

pub use arena::Arena;
pub use line::Line;
pub use memory::huge_pages_allowed;
pub use ports::PortLine;
pub use prefetch::{prefetch, prefetch_index, prefetch_two};
pub use region::Region;
pub use wide::{Base, Wide, Work, widest};
