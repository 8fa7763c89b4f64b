#!/usr/bin/python3
"""What the kernel itself says of the TCP connections here, as JSON lines: asked by sock_diag, because `getsockopt`
answers with today's sysctl and not with the timer that runs, and `ss` prints for people.

  sockets.py [PORT]     only connections with this port on either side

  {"local": "10.77.1.2", "port": 40112, "peer": "10.77.2.2", "peer_port": 5432, "state": "established",
   "timer": "keepalive", "expires": 2.9, "retransmits": 0, "unacked": 0}

timer: none, retransmit (a tail-loss probe too), keepalive, time-wait or zero-window; expires: seconds until it fires.
"""
import json
import socket
import struct
import sys

SOCK_DIAG_BY_FAMILY, INET_DIAG_INFO, DUMP = 20, 2, 0x301
TIMERS = {0: "none", 1: "retransmit", 2: "keepalive", 3: "time-wait", 4: "zero-window"}
# A connection that is still being opened has a budget of its own, and one that only waits has none.
STATES = {1: "established", 4: "fin-wait-1", 5: "fin-wait-2", 8: "close-wait", 9: "last-ack", 11: "closing"}


def connections():
    """Every IPv4 connection of this network namespace."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    wanted = sum(1 << state for state in STATES)
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, wanted) + bytes(48)
    netlink.send(struct.pack("=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, DUMP, 1, 0) + body)
    while True:
        answer, at = netlink.recv(1 << 20), 0
        while at < len(answer):
            length, kind = struct.unpack_from("=IH", answer, at)
            if kind == 3:  # done
                return
            if kind == 2:
                raise OSError(-struct.unpack_from("=i", answer, at + 16)[0], "sock_diag")
            yield one(answer[at + 16:at + length])
            at += (length + 3) & ~3


def one(message):
    """One inet_diag_msg, and what of its tcp_info is of use here."""
    _, state, timer, retransmits = struct.unpack_from("=BBBB", message)
    port, peer_port = struct.unpack_from("!HH", message, 4)
    expires, = struct.unpack_from("=I", message, 52)
    unacked, at = 0, 72
    while at < len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == INET_DIAG_INFO:
            unacked, = struct.unpack_from("=I", message, at + 4 + 24)
        at += (length + 3) & ~3
    return {
        "local": socket.inet_ntoa(message[8:12]), "port": port,
        "peer": socket.inet_ntoa(message[24:28]), "peer_port": peer_port,
        "state": STATES[state], "timer": TIMERS.get(timer, str(timer)), "expires": expires / 1000,
        # The same field counts unanswered probes while the keepalive timer runs.
        "retransmits": retransmits if timer == 1 else 0, "unacked": unacked,
    }


for connection in connections():
    if len(sys.argv) < 2 or int(sys.argv[1]) in (connection["port"], connection["peer_port"]):
        print(json.dumps(connection))
