//! What the live appliance is measured with: a source of GRE frames, and the plain forwarder that it is compared with.
//!
//! ```text
//!  rate flood DEVICE DESTINATION-MAC SECONDS FLOWS [FRAMES-PER-SECOND]
//!  rate forward IN OUT SECONDS
//! ```
//!
//! `flood` sends frames as the host 198.51.100.11 does to the port 198.51.100.2 under key 0xa01: 64 bytes inside, UDP from
//! 10.1.0.4 to 192.168.9.1, from as many ports as there are to be flows. `forward` reads frames of one device, swaps their
//! MAC addresses, and writes them to another, with the same rings as the appliance: what the machine can do at most.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clearway::sys::{Frames, PacketOptions, PacketSocket, index_of, poll};
use clearway::wire::build::{Transport, gre_frame, ip_packet};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["flood", device, mac, seconds, flows] => flood(device, mac, seconds, flows, "0"),
        ["flood", device, mac, seconds, flows, rate] => flood(device, mac, seconds, flows, rate),
        ["forward", from, to, seconds] => forward(from, to, seconds),
        _ => Err("rate flood DEVICE MAC SECONDS FLOWS [RATE] | rate forward IN OUT SECONDS".into()),
    };
    match done {
        Ok(count) => {
            println!("{count}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rate: {error}");
            ExitCode::from(2)
        }
    }
}

type Error = Box<dyn std::error::Error>;

/// Bytes of the inner packet: 20 and 8 are its headers.
const INNER: usize = 64;
/// Frames that are written or read at a time.
const BURST: usize = 64;

/// The frames of so many flows.
fn frames(mac: &str, flows: usize) -> Result<Vec<Vec<u8>>, Error> {
    let octets: Result<Vec<u8>, _> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    let mac: [u8; 6] = octets?.try_into().map_err(|_| "six octets make a MAC address")?;
    let [from, to] = [[10, 1, 0, 4], [192, 168, 9, 1]].map(IpAddr::from);
    let [host, port] = [[198, 51, 100, 11], [198, 51, 100, 2]].map(IpAddr::from);
    let frame = |flow: usize| {
        let (source, destination) = (1024 + (flow % 60_000) as u16, 9 + (flow / 60_000) as u16);
        let packet = ip_packet(from, to, Transport::Udp { source, destination }, &[0; INNER - 28])?;
        let mut frame = gre_frame(host, port, 0xa01, None, &packet)?;
        frame.get_mut(..6)?.copy_from_slice(&mac);
        Some(frame)
    };
    (0..flows).map(frame).collect::<Option<_>>().ok_or_else(|| "the frames cannot be made".into())
}

/// Sends frames of flows in turn, as fast as the device takes them or at so many per second; how many.
fn flood(device: &str, mac: &str, seconds: &str, flows: &str, rate: &str) -> Result<u64, Error> {
    let (seconds, flows, rate): (f64, usize, u64) = (seconds.parse()?, flows.parse()?, rate.parse()?);
    let frames = frames(mac, flows.max(1))?;
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
    Ok(sent - socket.pending() as u64)
}

/// Swaps MAC addresses from one device to another; how many frames.
fn forward(from: &str, to: &str, seconds: &str) -> Result<u64, Error> {
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut input = PacketSocket::open(index_of(from)?, &PacketOptions::new(1600))?;
    let mut output = PacketSocket::open(index_of(to)?, &PacketOptions::new(1600))?;
    let (mut frames, mut count) = (Frames::default(), 0);
    while Instant::now() < until {
        frames.clear();
        if input.receive(&mut frames, BURST) == 0 {
            poll(&[input.as_fd()], Some(Duration::from_millis(10)))?;
            continue;
        }
        for got in &frames.list {
            let frame = &mut frames.bytes[got.start as usize..got.end as usize];
            let (destination, source) = frame.split_at_mut(6);
            destination.swap_with_slice(&mut source[..6]);
            while !output.send(frame) {
                output.flush()?;
            }
            count += 1;
        }
        output.flush()?;
    }
    Ok(count)
}
