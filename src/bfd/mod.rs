//! Bidirectional Forwarding Detection (RFC 5880, asynchronous mode; RFC 5881, one hop): is the other end of a link alive?
//!
//! Nothing here has a socket, a clock or dice. Whoever has them owns a [`Session`] for each link:
//!
//! ```text
//!  UDP to port 3784, TTL 255 ─► receive(bytes, now) ─┐
//!                                                    ├─► Change: the link may carry, or must not (holds_down)
//!  when deadline() has come ──► tick(now, random) ───┘
//!                                    └─► 24 bytes to send, TTL 255, source port from 49152 on
//! ```
//!
//! Neither authentication nor echo nor a demand mode of our own. RFC 5881 section 5: only the caller sees the TTL, and must
//! discard what did not come with 255.

mod packet;
mod session;

pub use packet::{
    DETECTION_EXPIRED, LENGTH, NO_DIAGNOSTIC, Packet, Refused, SIGNALED_DOWN, State, TURNED_OFF,
};
pub use session::{Change, Config, Session};

#[cfg(test)]
mod tests;
