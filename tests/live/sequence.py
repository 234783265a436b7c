"""Numbered UDP datagrams both ways between two sockets, for the live tests: do they come once, and in the order in which
they were sent?

    sequence.py LOCAL REMOTE PORT COUNT PER-SECOND AFTER-SECONDS

Prints "RECEIVED TWICE LATE": how many different numbers came, how many came again, and how many behind a higher one. It ends
when nothing has come for two seconds, or for half of one when all are there.
"""

import socket
import struct
import sys
import threading
import time

local, remote, port, count, rate, after = sys.argv[1], sys.argv[2], *(int(n) for n in sys.argv[3:6]), float(sys.argv[6])
s = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
s.bind((local, port))


def send():
    time.sleep(after)
    begun = time.monotonic()
    for number in range(count):
        ahead = number / rate - (time.monotonic() - begun)
        if ahead > 0.002:
            time.sleep(ahead)
        s.sendto(struct.pack("!I", number) + bytes(96), (remote, port))


threading.Thread(target=send).start()
seen, twice, late, highest = set(), 0, 0, -1
s.settimeout(5)
try:
    while True:
        (number,) = struct.unpack("!I", s.recv(2048)[:4])
        twice += number in seen
        late += number < highest
        seen.add(number)
        s.settimeout(2 if len(seen) < count else 0.5)
        highest = max(highest, number)
except TimeoutError:
    print(len(seen), twice, late)
