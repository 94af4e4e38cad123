# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The program of a pool whose workers answer handshakes correctly and every run with an invalid message."""

import os
import signal
import sys
import time

import zmq

from etalumis.ppx.encode import encode
from etalumis.ppx.messages import HandshakeResult, Reset


def work(endpoint: str, number: int, rubbish: bytes) -> None:
    """Serve as worker `number`."""
    socket = zmq.Context().socket(zmq.REP)
    socket.bind(f"{endpoint}.{number}")
    socket.recv()
    socket.send(encode(HandshakeResult(f"rubbish, worker {number} (pid {os.getpid()})", "faulty", 1, 99)))
    while True:
        socket.recv()
        socket.send(rubbish)


def main() -> None:
    """Fork workers, and replace those that end."""
    endpoint, kind, _, count = sys.argv[1:5]
    rubbish = {"bytes": b"\xff" * 64, "reset": encode(Reset()), "handshake": encode(HandshakeResult("", ""))}[kind]
    numbers: dict[int, int] = {}
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        for number in set(range(int(count))) - set(numbers.values()):
            pid = os.fork()
            if pid == 0:
                work(endpoint, number, rubbish)
            numbers[pid] = number
        while (ended := os.waitpid(-1, os.WNOHANG)[0]) == 0:
            time.sleep(0.005)
        del numbers[ended]


if __name__ == "__main__":
    main()
