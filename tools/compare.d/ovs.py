"""Writes the OpenFlow tables of Open vSwitch for the traffic in a folder: ovs.py FOLDER [open] > flows

Tunnel key -> connection tracking in the customer's zone -> what is known passes, else the rules -> the customer's routes.
With `open`, everything passes and is tracked: tables that fill the connection table quickly.
"""

import sys


def blocks(first, last):
    """A range of ports as pairs of value and mask, as OpenFlow wants it."""
    while first <= last:
        size = first & -first or 65536
        while first + size - 1 > last:
            size //= 2
        yield first, 0xFFFF & -size
        first += size


def rule_flows(number, line):
    verdict, protocol, source, destination, first, last = line.split()
    first, last = int(first), int(last)
    addresses = "" if source.endswith("/0") else f",nw_src={source}"
    addresses += "" if destination.endswith("/0") else f",nw_dst={destination}"
    actions = "ct(commit,zone=NXM_NX_REG0[0..15]),goto_table:2" if verdict == "allow" else "drop"
    any_port = (first, last) == (0, 65535)
    protocols = {"6": ["tcp"], "17": ["udp"]}.get(protocol, ["ip"] if any_port else ["tcp", "udp"])
    for name in protocols:
        ports = [""] if any_port else [f",tp_dst={value:#x}/{mask:#x}" for value, mask in blocks(first, last)]
        for port in ports:
            yield f"table=1,priority={60000 - number},{name},ct_state=+new+trk{addresses}{port},actions={actions}"


def main(folder, opening):
    with open(f"{folder}/routes.txt") as file:
        routes = [line.split() for line in file]
    customers = sorted({(int(customer), key) for customer, key, _, _ in routes})
    for customer, key in customers:
        zone = customer + 1
        print(f"table=0,in_port=gre0,tun_id={key},ip,actions=load:{zone}->NXM_NX_REG0[],ct(table=1,zone={zone})")
    if opening:
        print("table=1,ip,ct_state=+new+trk,actions=ct(commit,zone=NXM_NX_REG0[0..15]),output:out0")
        print("table=1,ip,ct_state=+est+trk,actions=output:out0")
        return
    print("table=1,priority=65000,ip,ct_state=+est+trk,actions=goto_table:2")
    with open(f"{folder}/rules.txt") as file:
        for number, line in enumerate(file):
            print(*rule_flows(number, line), sep="\n")
    send = "actions=dec_ttl,mod_dl_src:02:00:00:00:00:02,mod_dl_dst:02:00:00:00:00:%02x,output:out0"
    for customer, _, prefix, hop in routes:
        length = int(prefix.split("/")[1])
        print(f"table=2,priority={100 + length},ip,reg0={int(customer) + 1},nw_dst={prefix},{send % (16 + int(hop))}")
    for customer, _ in customers:
        print(f"table=2,priority=108,ip,reg0={customer + 1},nw_dst=10.0.0.0/8,{send % 1}")


main(sys.argv[1], sys.argv[2:] == ["open"])
