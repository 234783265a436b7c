//! The fuzz targets: what must hold for any bytes at all. `tests/corpus.rs` runs them over the committed inputs,
//! `tools/fuzz.rs` over new ones.

mod bgp;
mod captures;
mod configs;
pub mod frames;

/// One entrance for foreign bytes.
pub struct Target {
    /// Its name, which is also that of its folder under `tests/corpus`.
    pub name: &'static str,
    /// Panics if anything that must hold does not.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 5] = [
    Target { name: "bgp", run: bgp::run },
    Target { name: "captures", run: captures::run },
    Target { name: "configs", run: configs::run },
    Target { name: "exports", run: configs::run_export },
    Target { name: "frames", run: frames::run },
];

/// A number that depends on all bytes: for what a target chooses at will but always the same way.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
        >> 3
}
