#!/usr/bin/env python3
"""UDP flows with numbered packets, and what came of them.

    flows.py send ADDRESS FLOWS RATE SECONDS      RATE packets a second of each flow, each from a port of its own
    flows.py receive FILE FLOWS                   writes what came, once all flows have ended, or after five silent seconds
    flows.py tell FILE [json]                     gaps and losses of each flow
"""
import json
import select
import socket
import struct
import sys
import time

PORT = 9000
END = 0xFFFFFFFF


def send(address, flows, rate, seconds):
    sockets = []
    for flow in range(flows):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("", 20000 + flow))
        s.connect((address, PORT))
        sockets.append(s)
    begin, count = time.monotonic(), int(rate * seconds)
    for number in range(count):
        late = begin + number / rate - time.monotonic()
        if late > 0:
            time.sleep(late)
        for flow, s in enumerate(sockets):
            try:
                s.send(struct.pack("!II", flow, number))
            except OSError:
                pass
    for _ in range(20):
        for flow, s in enumerate(sockets):
            try:
                s.send(struct.pack("!II", flow, END) + struct.pack("!I", count))
            except OSError:
                pass
        time.sleep(0.05)


def receive(path, flows):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    s.bind(("", PORT))
    came = [dict(received=0, twice=0, late=0, gap=0.0, gap_at=0.0, last=-1, at=None, sent=None) for _ in range(flows)]
    begin, seen = None, [set() for _ in range(flows)]
    while any(flow["sent"] is None for flow in came):
        if not select.select([s], [], [], 5 if begin else 60)[0]:
            break
        packet = s.recv(2048)
        now = time.monotonic()
        begin = begin or now
        number, sequence = struct.unpack_from("!II", packet)
        if number >= flows:
            continue
        flow = came[number]
        if sequence == END:
            flow["sent"] = struct.unpack_from("!I", packet, 8)[0]
            continue
        if sequence in seen[number]:
            flow["twice"] += 1
            continue
        seen[number].add(sequence)
        flow["received"] += 1
        flow["late"] += sequence < flow["last"]
        flow["last"] = max(flow["last"], sequence)
        if flow["at"] is not None and now - flow["at"] > flow["gap"]:
            flow["gap"], flow["gap_at"] = now - flow["at"], flow["at"] - begin
        flow["at"] = now
    json.dump(came, open(path, "w"))


def tell(path, as_json):
    came = json.load(open(path))
    if not all(flow["sent"] for flow in came):
        print("some flows did not end", file=sys.stderr)
        return 1
    lost = [flow["sent"] - flow["received"] for flow in came]
    gaps = sorted(flow["gap"] for flow, n in zip(came, lost) if n > 0)
    whole = sum(n == 0 for n in lost)
    told = dict(flows=len(came), whole=whole, lost=sum(lost), late=sum(f["late"] for f in came),
                twice=sum(f["twice"] for f in came), gaps=gaps)
    if as_json:
        print(json.dumps(told))
    else:
        print(f"{len(came)} flows: {whole} lost nothing; {len(gaps)} had a gap, of "
              + (f"{1000 * gaps[len(gaps) // 2]:.0f} ms in the middle, {1000 * gaps[-1]:.0f} ms at worst"
                 if gaps else "nothing"))
    return 0 if not gaps or gaps[-1] < 1 else 1


what = sys.argv[1]
if what == "send":
    send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
elif what == "receive":
    receive(sys.argv[2], int(sys.argv[3]))
else:
    sys.exit(tell(sys.argv[2], len(sys.argv) > 3))
