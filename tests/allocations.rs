//! The path allocates nothing once its tables have grown: neither for packets of known flows nor for new ones.

#![allow(unsafe_code)]

#[path = "../benches/common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;

use clearway::packet::{FlowState, Verdict};
use common::dataplane::Dataplane;
use common::traffic::{BATCH, Batch, NEIGHBOUR, Order, PUBLIC, SITE, Traffic};

/// The system's allocator, which counts what a thread asks of it.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ASKED.with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is the system allocator's; the count is a thread's own number and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DESTINATIONS: [Ipv4Addr; 3] = [NEIGHBOUR, SITE, PUBLIC];

/// How often the path asks for memory in so many batches of this traffic, after as many that are not counted.
fn asked(dataplane: &mut Dataplane, traffic: &mut Traffic, batches: u64, flow: FlowState) -> u64 {
    let mut batch = Batch::default();
    let mut counted = 0;
    for turn in 0..2 * batches {
        traffic.fill(&mut batch);
        let before = ASKED.with(Cell::get);
        dataplane.run(&batch);
        if turn >= batches {
            counted += ASKED.with(Cell::get) - before;
            let said = |b: &clearway::dataplane::Brief| b.verdict == Verdict::Forward && b.flow == flow;
            assert!(dataplane.results.done.iter().all(said));
        }
    }
    counted
}

#[test]
fn packets_of_known_flows_allocate_nothing() {
    let mut dataplane = Dataplane::new(100, 100);
    let flows = 4 * BATCH;
    let mut traffic = Traffic::new(&DESTINATIONS, 64, flows, Order::Shuffled);
    // The first round opens the flows, the second keeps their ways.
    assert_eq!(asked(&mut dataplane, &mut traffic, 8, FlowState::Established), 0);
}

#[test]
fn counting_counts() {
    let before = ASKED.with(Cell::get);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ASKED.with(Cell::get) - before, 1);
}
