#!/usr/bin/env python3
"""A router's end of GRE tunnels where the kernel has none: packets of the TUN device NAME leave in GRE with a key.

    gre.py LOCAL REMOTE NAME KEY [NAME KEY...]   (in the namespace of the router; the devices are made, and go with this
                                                 program)
"""
import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
GRE, KEY_PRESENT = 47, 0x2000
TYPES = {4: 0x0800, 6: 0x86DD}


def main():
    local, remote, *tunnels = sys.argv[1:]
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, GRE)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    raw.bind((local, 0))
    raw.connect((remote, 0))
    raw.setblocking(False)
    heads, known = {}, {}
    waits = select.poll()
    waits.register(raw, select.POLLIN)
    for name, key in zip(tunnels[::2], tunnels[1::2]):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
        heads[tun] = {version: struct.pack("!HHI", KEY_PRESENT, of, int(key, 0)) for version, of in TYPES.items()}
        known.update({head: tun for head in heads[tun].values()})
        waits.register(tun, select.POLLIN)
    while True:
        for fd, _ in waits.poll():
            for _ in range(64):
                try:
                    if fd in heads:
                        packet = os.read(fd, 65536)
                        head = heads[fd].get(packet[0] >> 4)
                        if head:
                            raw.send(head + packet)
                    else:
                        packet = raw.recv(65536)
                        begin = (packet[0] & 15) * 4
                        tun = known.get(packet[begin : begin + 8])
                        if tun is not None:
                            os.write(tun, packet[begin + 8 :])
                except BlockingIOError:
                    break
                except OSError:
                    # The device is down, or nobody is there: as on any wire.
                    break


main()
