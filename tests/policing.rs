//! What passes a circuit link over time, by the capture's clock: the bandwidth, in both directions, for small and large
//! packets, with one worker and with two. The figures are printed.

use std::convert::Infallible;

use clearway::model::{self, Model};
use clearway::packet::Reason;
use clearway::runtime::{Finished, Replay};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// So many times the bandwidth is offered: the bucket, which holds a tenth of a second, is empty after a thirtieth of one.
const OFFERED: u64 = 4;
/// What passes is counted from here on.
const FROM: u64 = SECOND / 20;

/// And up to here; less of many packets.
fn until(mbps: u64) -> u64 {
    FROM + if mbps < 10_000 { SECOND / 5 } else { SECOND / 50 }
}

fn configuration(mbps: u64) -> Model {
    let text = format!(
        "\
apiVersion: clearway/v1
ports: {{f: {{role: fabric, address: 198.51.100.2, mtu: 1600}}, e: {{role: edge, address: 192.0.2.1, mtu: 1600}}}}
customers:
  - name: contoso
    virtualNetworks:
      - name: hub
        addressSpace: {{addressPrefixes: [10.1.0.0/16]}}
        subnets: [{{name: a, addressPrefix: 10.1.0.0/24}}, {{name: GatewaySubnet, addressPrefix: 10.1.255.0/27}}]
    expressRouteCircuits:
      - name: er1
        serviceProviderProperties: {{bandwidthInMbps: {mbps}}}
        peerings: [{{name: AzurePrivatePeering}}]
    virtualNetworkGateways: [{{name: g, gatewayType: ExpressRoute, virtualNetwork: hub}}]
    connections: [{{name: c, connectionType: ExpressRoute, virtualNetworkGateway1: g, peer: er1}}]
    tunnels:
      - {{vnet: hub, port: f, key: 1}}
      - {{circuit: er1, link: primary, port: e, remote: 192.0.2.2, key: 1}}
    hosts: [{{address: 198.51.100.11, vnet: hub, prefixes: [10.1.0.0/24]}}]
    learnedRoutes: [{{prefix: 192.168.0.0/16, circuit: er1}}]
"
    );
    model::from_bytes("policing.yaml", text.as_bytes(), None).expect("the configuration is right")
}

/// The sum of RFC 1071 over a header.
fn checksum(header: &[u8]) -> [u8; 2] {
    let words = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(folded as u16 + (folded >> 16) as u16)).to_be_bytes()
}

fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend(from.iter().chain(&to));
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

/// A UDP packet of so many bytes, from the VM to the site or back, in the customer's GRE.
fn frame(outwards: bool, bytes: usize) -> Vec<u8> {
    let (vm, site) = ([10, 1, 0, 4], [192, 168, 1, 1]);
    let (from, to) = if outwards { (vm, site) } else { (site, vm) };
    let mut udp = vec![0x9c, 0x40, 0x13, 0x89];
    udp.extend(((bytes - 20) as u16).to_be_bytes());
    udp.resize(bytes - 20, 0);
    let mut gre = vec![0x20, 0, 8, 0, 0, 0, 0, 1];
    gre.extend(ipv4(17, from, to, &udp));
    let outer = if outwards {
        ipv4(47, [198, 51, 100, 11], [198, 51, 100, 2], &gre)
    } else {
        ipv4(47, [192, 0, 2, 2], [192, 0, 2, 1], &gre)
    };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend(outer);
    frame
}

/// Mbit/s that passed in the time that counts.
fn passed(mbps: u64, bytes: usize, outwards: bool, workers: usize) -> f64 {
    let (model, until) = (configuration(mbps), until(mbps));
    let mut replay = Replay::new(&model, workers, Vec::new()).terse();
    let port = u16::from(!outwards);
    let frame = frame(outwards, bytes);
    let (mut all, mut went, mut first) = (0_u64, 0_u64, None);
    let mut sink = |done: Finished<'_>| -> Result<(), Infallible> {
        let begin = *first.get_or_insert(done.now);
        let over = done.verdict == clearway::packet::Verdict::Drop(Reason::OverRate);
        assert!(over || done.verdict == clearway::packet::Verdict::Forward, "{:?}", done.verdict);
        all += 1;
        went += u64::from(!over && (FROM..until).contains(&(done.now - begin)));
        Ok(())
    };
    // In bits and Mbit/s: a nanosecond carries a thousandth of a megabit.
    let bits = 8 * bytes as u64;
    let count = until * mbps * OFFERED / (1000 * bits);
    for number in 0..count {
        let time = 1_700_000_000 * SECOND + number * bits * 1000 / (mbps * OFFERED);
        let Ok(()) = replay.push(port, time, 9, &frame, frame.len() as u32, &mut sink);
    }
    let Ok(_) = replay.finish(&mut sink);
    assert_eq!(all, count);
    (went * bits) as f64 * 1000.0 / (until - FROM) as f64
}

fn holds(mbps: u64, workers: usize) {
    for bytes in [64, 1400] {
        for outwards in [false, true] {
            let rate = passed(mbps, bytes, outwards, workers);
            let off = 100.0 * (rate / mbps as f64 - 1.0);
            let way = if outwards { "out" } else { "in" };
            println!(
                "{mbps} Mbit/s, {bytes} bytes, {way}, {workers} workers: {rate:.2} Mbit/s ({off:+.2} %)"
            );
            assert!(off.abs() < 2.0, "{rate} Mbit/s of {mbps}");
        }
    }
}

#[test]
fn fifty_megabits_a_second() {
    holds(50, 1);
    holds(50, 2);
}

#[test]
fn a_gigabit_a_second() {
    holds(1000, 1);
    holds(1000, 2);
}

#[test]
fn ten_gigabits_a_second() {
    holds(10_000, 1);
}
