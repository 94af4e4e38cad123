# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis serve` as a process, and a client that sends arbitrary messages."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import zmq

from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import encode
from etalumis.ppx.messages import Message

SERVE = [sys.executable, "-m", "etalumis", "serve"]
TIMEOUT_S = 60
ZOO = """\
from etalumis.distributions import Bernoulli, Normal, Uniform
from etalumis.models import observe, sample, tag

def two():
    return sample(Uniform(0.0, 1.0)) + sample(Uniform(0.0, 1.0))

def stubborn():
    total = 0.0
    for _ in range(5):
        try:
            total += sample(Uniform(0.0, 1.0))
        except BaseException:
            total += 1000.0
    return total

def turns_errors():
    try:
        return sample(Uniform(0.0, 1.0)) + sample(Uniform(0.0, 1.0))
    except BaseException as error:
        raise RuntimeError("of my own") from error

def careless():
    try:
        return sample(Uniform(0.0, 1.0)) + sample(Uniform(0.0, 1.0))
    except Exception:
        return -1.0

def fails(at=3, calls=None, text="the magnet is off"):
    if calls is not None:
        with open(calls, "a", encoding="utf-8") as file:
            file.write("called\\n")
    for number in range(5):
        if number == at:
            raise ValueError(text)
        sample(Uniform(0.0, 1.0))

def everything(width=2.0):
    x = sample(Normal(0.0, width), name="x", control=False)
    observe(Bernoulli(0.25), "given", 1.0)
    observe(Normal(x, 1.0), name="asked")
    tag("matrix", [[1.0, x], [3.0, 4.0]])
"""
"""A module of correct and faulty models."""


@contextlib.contextmanager
def served(
    folder: Path, target: str, address: str = "tcp://127.0.0.1:*", *options: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Serve a model from a folder; yield the process and its endpoint."""
    process = subprocess.Popen(
        [*SERVE, target, address, *options], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r" serving \S+ at (\S+)", line)
        assert found is not None, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a process; return its exit code and its standard error."""
    _, error = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, error


class Client:
    """A REQ socket."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, 1000 * TIMEOUT_S)
        self._socket.connect(endpoint)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *unused: object) -> None:
        self._context.destroy(linger=0)

    def ask(self, *parts: bytes | Message) -> Message:
        """Send a message of one or more parts; return the answer."""
        self.send(*parts)
        return Decoder().decode(self.receive())

    def receive(self) -> bytes:
        """Wait for a message."""
        return self._socket.recv()

    def send(self, *parts: bytes | Message) -> None:
        """Send a message without waiting for the answer."""
        self._socket.send_multipart([part if isinstance(part, bytes) else encode(part) for part in parts])
