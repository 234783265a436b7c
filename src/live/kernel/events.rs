//! What the kernel tells unasked: a thread that waits for it and passes it on.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use netlink_packet_core::{Emitable, NLM_F_ACK, NLMSG_NOOP, NetlinkHeader};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::messages::{self, Event};
use crate::sys::receive_room;

/// RTNLGRP_: LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, NEXTHOP.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];

/// Room in the kernel for what is not yet read.
const ROOM: i32 = 8 << 20;

/// MSG_DONTWAIT.
const AT_ONCE: i32 = 0x40;
/// MSG_TRUNC: a datagram's own length, even if it is longer than the buffer.
const WHOLE_LENGTH: i32 = 0x20;

/// If more is told than can be read, all is asked for anew when there is a pause, or after this time.
const PAUSE: Duration = Duration::from_millis(500);

/// A subscription; dropped, it ends.
pub struct Events {
    socket: Socket,
    stop: AtomicBool,
    overruns: AtomicU64,
}

impl Events {
    /// Subscribes in the network namespace of this thread; what happens from here on will be told.
    pub fn subscribe(room: Option<i32>) -> io::Result<Arc<Events>> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        receive_room(socket.as_fd(), room.unwrap_or(ROOM))?;
        socket.bind_auto()?;
        for group in GROUPS {
            // An older kernel lacks the newest group.
            if let Err(error) = socket.add_membership(group) {
                tracing::warn!(group, %error, "the kernel does not tell of this");
            }
        }
        Ok(Arc::new(Events { socket, stop: AtomicBool::new(false), overruns: AtomicU64::new(0) }))
    }

    /// Has [`Events::pass_on`] return soon: the kernel acknowledges a message that asks for nothing, which wakes it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let mut header = NetlinkHeader::default();
        header.length = 16;
        header.message_type = NLMSG_NOOP;
        header.flags = NLM_F_ACK;
        let mut message = [0; 16];
        header.emit(&mut message);
        if let Err(error) = self.socket.send_to(&message, &SocketAddr::new(0, 0), 0) {
            tracing::warn!(%error, "cannot wake who waits for the kernel");
        }
    }

    /// How often events were lost.
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// Waits for events and passes them on, until stopped or nobody wants them any more.
    pub fn pass_on(&self, to: &Sender<Event>) {
        let mut buffer: Vec<u8> = Vec::with_capacity(1 << 16);
        // Since when events may be missing. Once it has dropped one the kernel drops more without saying so again,
        // until all that waits has been read: only what is asked for after that is complete.
        let mut lost: Option<Instant> = None;
        while !self.stop.load(Ordering::Acquire) {
            buffer.clear();
            let flags = WHOLE_LENGTH | if lost.is_some() { AT_ONCE } else { 0 };
            match self.socket.recv_from(&mut buffer, flags) {
                Ok((length, from)) => {
                    // Others than the kernel tell us nothing.
                    let told = if from.port_number() == 0 { buffer.as_slice() } else { &[] };
                    let events =
                        messages::messages(told).filter_map(|(kind, _, _, m)| messages::event(kind, m));
                    for event in events {
                        if to.send(event).is_err() {
                            return;
                        }
                    }
                    if length > buffer.len() {
                        self.overruns.fetch_add(1, Ordering::Relaxed);
                        lost.get_or_insert_with(Instant::now);
                    }
                    if lost.is_some_and(|since| since.elapsed() > PAUSE) {
                        lost = Some(Instant::now());
                        if to.send(Event::Lost).is_err() {
                            return;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if lost.take().is_some() && to.send(Event::Lost).is_err() {
                        return;
                    }
                }
                // ENOBUFS, most likely.
                Err(error) => {
                    self.overruns.fetch_add(1, Ordering::Relaxed);
                    if lost.is_none() {
                        tracing::warn!(%error, "missed events of the kernel; asking for everything anew");
                    } else {
                        // Whatever it is, it must not keep a processor busy.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    lost.get_or_insert_with(Instant::now);
                }
            }
        }
    }
}
