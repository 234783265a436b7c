//! What the live appliance is measured with: a source of GRE frames, and the plain forwarder that it is compared with.
//!
//! ```text
//!  rate flood DEVICE DESTINATION-MAC SECONDS FLOWS [FRAMES-PER-SECOND [BYTES [site]]]
//!  rate forward IN OUT SECONDS af_packet|af_xdp|pnet|tap
//!  rate latency OUT IN DESTINATION-MAC SECONDS FRAMES-PER-SECOND
//! ```
//!
//! `flood` sends frames as the host 198.51.100.11 does to the port 198.51.100.2 under key 0xa01: 64 bytes inside (or so many),
//! UDP from 10.1.0.4 to 192.168.9.1, from as many ports as there are to be flows; or as the site does, 100.64.1.2 to 100.64.1.1
//! under key 0xc01, the other way. `forward` reads frames of one device, swaps their
//! MAC addresses, and writes them to another, with the same sockets as the appliance: what the machine can do at most.
//! `latency` floods one device and says how long frames took until they came back by the other, in microseconds: median,
//! 99th and 99.9th percentile, and how many of those sent came.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clearway::live::pnet::PnetSocket;
use clearway::sys::bpf::{Attached, Ours, attach_ingress, load_filter};
use clearway::sys::xdp::XdpSocket;
use clearway::sys::{Filter, Frames, PacketOptions, PacketSocket, Tap, index_of, poll, set_up};
use clearway::wire::build::{Transport, gre_frame, ip_packet};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["flood", device, mac, seconds, flows, more @ ..] => flood(device, mac, seconds, flows, more),
        ["forward", from, to, seconds, io] => forward(from, to, seconds, io),
        ["latency", to, from, mac, seconds, rate] => latency(to, from, mac, seconds, rate),
        _ => Err("see the first lines of tools/rate.rs".into()),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rate: {error}");
            ExitCode::from(2)
        }
    }
}

type Error = Box<dyn std::error::Error>;

/// Bytes of the inner packet, unless said.
const INNER: usize = 64;
/// Of these, the headers.
const HEADERS: usize = 28;
/// Frames that are written or read at a time.
const BURST: usize = 64;

/// The frames of so many flows, of a host or of the site, with so many bytes inside.
fn frames(mac: &str, flows: usize, inner: usize, site: bool) -> Result<Vec<Vec<u8>>, Error> {
    let payload = vec![0; inner.checked_sub(HEADERS).ok_or("a packet has 28 bytes at least")?];
    let octets: Result<Vec<u8>, _> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    let mac: [u8; 6] = octets?.try_into().map_err(|_| "six octets make a MAC address")?;
    let host = ([10, 1, 0, 4], [192, 168, 9, 1], [198, 51, 100, 11], [198, 51, 100, 2], 0xa01);
    let customer = ([192, 168, 9, 1], [10, 1, 0, 4], [100, 64, 1, 2], [100, 64, 1, 1], 0xc01);
    let (from, to, end, port, key) = if site { customer } else { host };
    let [from, to, end, port] = [from, to, end, port].map(IpAddr::from);
    let frame = |flow: usize| {
        let (source, destination) = (1024 + (flow % 60_000) as u16, 9 + (flow / 60_000) as u16);
        let packet = ip_packet(from, to, Transport::Udp { source, destination }, &payload)?;
        let mut frame = gre_frame(end, port, key, None, &packet)?;
        frame.get_mut(..6)?.copy_from_slice(&mac);
        Some(frame)
    };
    (0..flows).map(frame).collect::<Option<_>>().ok_or_else(|| "the frames cannot be made".into())
}

/// Sends frames of flows in turn, as fast as the device takes them or at so many per second; how many.
fn flood(device: &str, mac: &str, seconds: &str, flows: &str, more: &[&str]) -> Result<String, Error> {
    let (seconds, flows): (f64, usize) = (seconds.parse()?, flows.parse()?);
    let rate: u64 = more.first().map_or(Ok(0), |rate| rate.parse())?;
    let inner = more.get(1).map_or(Ok(INNER), |bytes| bytes.parse())?;
    let frames = frames(mac, flows.max(1), inner, more.get(2) == Some(&"site"))?;
    let mut socket = PacketSocket::open(index_of(device)?, &PacketOptions::new(1600))?;
    let (begin, until) = (Instant::now(), Duration::from_secs_f64(seconds));
    let (mut sent, mut next) = (0_u64, 0);
    while begin.elapsed() < until {
        let due = if rate == 0 { u64::MAX } else { (begin.elapsed().as_secs_f64() * rate as f64) as u64 };
        let mut burst = 0;
        while burst < BURST && sent < due && socket.send(&frames[next]) {
            next = (next + 1) % frames.len();
            (sent, burst) = (sent + 1, burst + 1);
        }
        socket.flush()?;
        if burst == 0 && rate > 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let end = Instant::now() + Duration::from_secs(1);
    while !socket.flush()? && Instant::now() < end {}
    Ok((sent - socket.pending() as u64).to_string())
}

/// A device's frames, by any kind of socket.
enum Socket {
    Packet(PacketSocket),
    Xdp(Box<XdpSocket>),
    Pnet(PnetSocket),
    Tap(Tap),
}

impl Socket {
    /// As the appliance opens it: the kernel's stack does not see what is ours.
    fn open(device: &str, io: &str, ours: &Ours) -> Result<(Socket, Option<Attached>), Error> {
        if io == "tap" {
            let end = Tap::open(device)?.another(1622)?;
            set_up(device)?;
            return Ok((Socket::Tap(end), None));
        }
        let index = index_of(device)?;
        if io == "af_xdp" {
            let sockets = XdpSocket::open(index, 1, 1622, ours)?;
            let first = sockets.into_iter().next().ok_or("no queue")?;
            return Ok((Socket::Xdp(Box::new(first)), None));
        }
        let program = load_filter(ours)?;
        let filter = Filter::Program(program.as_fd());
        if io == "pnet" {
            let socket = PnetSocket::open(device, index, [0; 6], 1622, filter, 16 << 20)?;
            return Ok((Socket::Pnet(socket), Some(attach_ingress(index, ours)?)));
        }
        let options = PacketOptions { filter, ..PacketOptions::new(1600) };
        Ok((Socket::Packet(PacketSocket::open(index, &options)?), Some(attach_ingress(index, ours)?)))
    }

    fn receive(&mut self, frames: &mut Frames) {
        match self {
            Socket::Packet(socket) => _ = socket.receive(frames, BURST),
            Socket::Xdp(socket) => _ = socket.receive(frames, BURST),
            Socket::Pnet(socket) => socket.receive(frames, BURST),
            Socket::Tap(end) => end.receive(frames, BURST),
        }
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        match self {
            Socket::Packet(socket) => socket.send(frame),
            Socket::Xdp(socket) => socket.send(frame),
            Socket::Pnet(socket) => socket.send(frame),
            Socket::Tap(end) => end.send(frame),
        }
    }

    fn flush(&mut self) -> Result<bool, Error> {
        Ok(match self {
            Socket::Packet(socket) => socket.flush()?,
            Socket::Xdp(socket) => socket.flush()?,
            Socket::Pnet(_) | Socket::Tap(_) => true,
        })
    }

    fn wait(&self) -> Result<(), Error> {
        let descriptor = match self {
            Socket::Packet(socket) => socket.as_fd(),
            Socket::Xdp(socket) => socket.as_fd(),
            Socket::Pnet(socket) => socket.as_fd(),
            Socket::Tap(end) => end.as_fd(),
        };
        poll(&[descriptor], Some(Duration::from_millis(10)))?;
        Ok(())
    }
}

/// Swaps MAC addresses from one device to another; how many frames.
fn forward(from: &str, to: &str, seconds: &str, io: &str) -> Result<String, Error> {
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let ours = |address: [u8; 4]| Ours { address: IpAddr::from(address), plain: false, local: Vec::new() };
    let (mut input, _guard) = Socket::open(from, io, &ours([198, 51, 100, 2]))?;
    let (mut output, _other) = Socket::open(to, io, &ours([100, 64, 1, 1]))?;
    let (mut frames, mut count) = (Frames::default(), 0_u64);
    while Instant::now() < until {
        frames.clear();
        input.receive(&mut frames);
        if frames.list.is_empty() {
            output.flush()?;
            input.wait()?;
            continue;
        }
        for got in &frames.list {
            let frame = &mut frames.bytes[got.start as usize..got.end as usize];
            let (destination, source) = frame.split_at_mut(6);
            destination.swap_with_slice(&mut source[..6]);
            while !output.send(frame) && Instant::now() < until {
                output.flush()?;
            }
            count += 1;
        }
        output.flush()?;
    }
    Ok(count.to_string())
}

/// Where the time stands at which a frame was sent: in the payload of its inner packet.
const STAMP: usize = 14 + 20 + 8 + 28;
/// Where the checksum of the inner UDP header stands; none is sent.
const CHECKSUM: usize = 14 + 20 + 8 + 26;

fn latency(to: &str, from: &str, mac: &str, seconds: &str, rate: &str) -> Result<String, Error> {
    let (seconds, rate): (f64, f64) = (seconds.parse()?, rate.parse()?);
    let mut frames = frames(mac, 1000, INNER, false)?;
    let mut output = PacketSocket::open(index_of(to)?, &PacketOptions::new(1600))?;
    let mut input = PacketSocket::open(index_of(from)?, &PacketOptions::new(1600))?;
    let begin = Instant::now();
    let nanos = move || begin.elapsed().as_nanos() as u64;
    let until = (seconds * 1e9) as u64;
    let receiver = std::thread::spawn(move || {
        let (mut received, mut took) = (Frames::default(), Vec::new());
        while nanos() < until + 200_000_000 {
            received.clear();
            if input.receive(&mut received, 4 * BURST) == 0 {
                let _ = poll(&[input.as_fd()], Some(Duration::from_millis(10)));
                continue;
            }
            let now = nanos();
            for got in &received.list {
                let frame = received.frame(*got);
                let stamp =
                    frame.get(STAMP..STAMP + 8).and_then(|s| s.first_chunk()).map(|s| u64::from_be_bytes(*s));
                // Those of the first tenth find neighbours and flows that are not known yet.
                took.extend(stamp.filter(|s| *s > until / 10 && *s <= now).map(|s| now - s));
            }
        }
        took
    });
    let (mut sent, mut next, mut counted) = (0_u64, 0, 0_u64);
    while nanos() < until {
        let due = (nanos() as f64 / 1e9 * rate) as u64;
        let mut burst = 0;
        while sent < due && burst < BURST {
            let now = nanos();
            let frame = &mut frames[next];
            frame[STAMP..STAMP + 8].copy_from_slice(&now.to_be_bytes());
            frame[CHECKSUM..CHECKSUM + 2].fill(0);
            if !output.send(frame) {
                break;
            }
            next = (next + 1) % frames.len();
            (sent, burst) = (sent + 1, burst + 1);
            counted += u64::from(now > until / 10);
        }
        output.flush()?;
        if burst == 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
    let mut took = receiver.join().map_err(|_| "the receiver failed")?;
    took.sort_unstable();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).map_or(0.0, |t| *t as f64 / 1000.0);
    Ok(format!("{:.1} {:.1} {:.1} {} {counted}", at(0.5), at(0.99), at(0.999), took.len()))
}
