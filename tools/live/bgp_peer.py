#!/usr/bin/env python3
"""A BGP speaker that says what it is told, faults too, and prints what comes back.

usage: bgp_peer.py LOCAL[,LOCAL...] REMOTE[,REMOTE...] ASN KEY STEP...      KEY of TCP-MD5 or ''; each step in all sessions

Steps: announce=PREFIX[,ATTRIBUTE...]   an UPDATE; each ATTRIBUTE, as hexadecimal octets, is added or replaces the usual one
       of its type; withdraw=PREFIX; many=COUNT and none=COUNT   announce and withdraw so many prefixes of 24 bits from
       60.0.0.0 on; raw=HEX   octets as they are; wait=SECONDS; say=TEXT; until=FILE   waits until it is there

Printed: `open ASN`, `notification CODE SUBCODE`, `closed`, what `say` says, and when `many` and `none` begin (seconds since
1970), each when it happens.
"""
import ipaddress
import os
import socket
import struct
import sys
import threading
import time

MARKER = b"\xff" * 16
TCP_MD5SIG = 14


def message(kind, body=b""):
    return MARKER + struct.pack(">HB", 19 + len(body), kind) + body


def prefix(text):
    network = ipaddress.ip_network(text)
    return bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def update(withdrawn, attributes, announced):
    attributes = b"".join(attributes)
    return message(
        2,
        struct.pack(">H", len(withdrawn)) + withdrawn + struct.pack(">H", len(attributes)) + attributes + announced,
    )


def announce(text, asn, local):
    first, *others = text.split(",")
    usual = {
        1: b"\x40\x01\x01\x00",
        2: b"\x40\x02\x06\x02\x01" + struct.pack(">I", asn),
        3: b"\x40\x03\x04" + socket.inet_aton(local),
    }
    for other in map(bytes.fromhex, others):
        usual[other[1]] = other
    return update(b"", [usual[n] for n in sorted(usual)], prefix(first))


def several(count, asn, local, announced):
    numbers = [bytes([24, 60 + n // 65536, n // 256 % 256, n % 256]) for n in range(count)]
    attributes = [b"\x40\x01\x01\x00", b"\x40\x02\x06\x02\x01" + struct.pack(">I", asn), b"\x40\x03\x04" + socket.inet_aton(local)]
    for first in range(0, count, 900):
        some = b"".join(numbers[first : first + 900])
        yield update(b"", attributes, some) if announced else update(some, [], b"")


def read(connection, amount):
    got = b""
    while len(got) < amount:
        more = connection.recv(amount - len(got))
        if not more:
            raise ConnectionError
        got += more
    return got


class Session:
    """One connection, whose OPENs have been exchanged."""

    def __init__(self, local, remote, asn, key):
        self.local, self.asn = local, asn
        self.lock = threading.Lock()
        self.opened = threading.Event()
        connection = self.connection = socket.socket()
        if key:
            address = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(remote)).ljust(128, b"\0")
            secret = struct.pack("=BBHI80s", 0, 0, len(key), 0, key.encode())
            connection.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, address + secret)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind((local, 0))
        connection.settimeout(10)
        connection.connect((remote, 179))
        connection.settimeout(None)
        options = b"\x02\x06\x41\x04" + struct.pack(">I", asn) + b"\x02\x06\x01\x04\x00\x01\x00\x01"
        body = struct.pack(">BHH4sB", 4, min(asn, 23456), 90, socket.inet_aton(local), len(options)) + options
        self.send(message(1, body))
        threading.Thread(target=self.listen, daemon=True).start()
        self.opened.wait(10)
        self.send(message(4))

    def send(self, octets):
        with self.lock:
            self.connection.sendall(octets)

    def listen(self):
        try:
            while True:
                length, kind = struct.unpack(">HB", read(self.connection, 19)[16:])
                body = read(self.connection, length - 19)
                if kind == 1:
                    print("open", struct.unpack(">H", body[1:3])[0], flush=True)
                    self.opened.set()
                elif kind == 3:
                    print("notification", body[0], body[1], flush=True)
                elif kind == 4 and self.opened.is_set():
                    self.send(message(4))
        except OSError:
            print("closed", flush=True)
            self.opened.set()


def main():
    locals_, remotes, asn, key, *steps = sys.argv[1:]
    pairs = zip(locals_.split(","), remotes.split(","))
    sessions = [Session(local, remote, int(asn), key) for local, remote in pairs]
    time.sleep(0.3)
    for step in steps:
        what, _, value = step.partition("=")
        octets = lambda session: b""
        if what == "announce":
            octets = lambda session: announce(value, session.asn, session.local)
        elif what == "withdraw":
            octets = lambda session: update(prefix(value), [], b"")
        elif what in ("many", "none"):
            print(what, time.time(), flush=True)
            octets = lambda session: b"".join(several(int(value), session.asn, session.local, what == "many"))
        elif what == "raw":
            octets = lambda session: bytes.fromhex(value)
        elif what == "until":
            while not os.path.exists(value):
                time.sleep(0.05)
        elif what == "wait":
            time.sleep(float(value))
        elif what == "say":
            print(value, flush=True)
        try:
            for session in sessions:
                session.send(octets(session))
        except OSError:
            print("closed", flush=True)
            return


main()
