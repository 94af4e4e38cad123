# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Thousands of altered messages to running simulators: each is answered, and later runs are correct."""

import json
import os
import random
import socket
import struct
import subprocess
from pathlib import Path

import pytest
import zmq
from interop import flat
from interop.fixtures import make

from etalumis import execution
from etalumis.ppx import connect

MESSAGES = 4_000
REQUESTS = ("Handshake", "Run", "SampleResult", "ObserveResult", "TagResult", "Reset")
EXPECTED = {"Sample": "SampleResult", "Observe": "ObserveResult", "Tag": "TagResult"}


def seeds_of(kind):
    """The bytes of one kind of request in the fixtures."""
    text = (make.FOLDER / "ppx_1_0.json").read_text(encoding="utf-8")
    return [bytes.fromhex(h) for m in json.loads(text)["messages"] if m["kind"] == kind for h in m["bytes"].values()]


SEEDS = {kind: seeds_of(kind) for kind in REQUESTS}
OTHERS = [flat.message(kind) for kind in flat.TABLES]
NUMBERS = (0, 1, 4, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFC)


def altered(rng, message):
    """Flip, overwrite, truncate, repeat or splice parts of a message."""
    data = bytearray(message)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and len(data) >= 4:
            number = rng.choice((*NUMBERS, rng.getrandbits(32), rng.randrange(256)))
            struct.pack_into("<I", data, place // 4 * 4 % (len(data) - 3), number)
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            data[place:place] = data[: rng.randrange(64)]
        elif kind == 4:
            data[place:] = rng.choice(OTHERS)[place:]
        else:
            data = bytearray(rng.randbytes(rng.randrange(80)))
    return bytes(data)


class Hostile:
    """A REQ client that sends arbitrary bytes."""

    def __init__(self, endpoint):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self.socket.connect(endpoint)

    def ask(self, message):
        self.socket.send(message)
        return flat.kind_of(self.socket.recv())

    def close(self):
        self.socket.close()
        self.context.term()


class Fixed:
    """Gives every draw the same value."""

    def sample(self, site):
        return 0.5

    def observe(self, name, distribution, given):
        return None


def resident_kb(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.parametrize("name", ["gaussian", "hundred"])
def test_altered_messages_at_every_point_of_a_run(cpp_examples, tmp_path, name):
    rng = random.Random(5)
    endpoint = f"ipc://{tmp_path / 'socket'}"
    with subprocess.Popen([cpp_examples / name, endpoint], stderr=subprocess.PIPE, text=True) as server:
        try:
            server.stderr.readline()
            with connect(endpoint) as peer:
                good = execution.run(peer, Fixed())
            hostile = Hostile(endpoint)
            found, state = dict.fromkeys([*flat.TABLES, "in a run"], 0), "Reset"
            for number in range(MESSAGES):
                expected = EXPECTED.get(state, "Run")
                if number == MESSAGES // 4:
                    before = resident_kb(server.pid)
                if rng.random() < 0.5:  # continue the run, so that every statement is reached
                    state = hostile.ask(rng.choice(SEEDS[expected]))
                else:
                    found["in a run"] += state in EXPECTED
                    seed = rng.choice(SEEDS[expected if rng.random() < 0.5 else rng.choice(REQUESTS)])
                    state = hostile.ask(altered(rng, seed))
                found[state] += 1
            assert resident_kb(server.pid) < before + 2_000  # kB: invalid messages are not kept
            assert hostile.ask(b"") == "Reset"
            hostile.close()
            assert found["Reset"] > 500
            assert found["in a run"] > 500
            assert found["Sample"] > 100
            with connect(endpoint) as peer:
                again = execution.run(peer, Fixed())
            assert (again.value, again.result, list(again.tags)) == (good.value, good.result, list(good.tags))
            assert server.poll() is None
        finally:
            server.terminate()
    assert server.returncode == 0


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"
NOT_OURS = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "nothing": b"",
    "a greeting that breaks off": GREETING[:30],
    "another mechanism": GREETING.replace(b"NULL", b"MINE"),
    "a frame of 2^62 bytes": GREETING + READY + b"\x01\x00\x02" + struct.pack(">Q", 1 << 62) + b"x",
    "a frame that breaks off": GREETING + READY + b"\x01\x00\x02" + struct.pack(">Q", 500) + b"x",
    "noise": bytes(range(256)) * 40,
}


def test_other_protocols_than_zeromq_have_no_effect(cpp_examples):
    with subprocess.Popen(
        [cpp_examples / "gaussian", "tcp://127.0.0.1:*"], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            endpoint = server.stderr.readline().split()[-1]
            port = int(endpoint.rpartition(":")[2])
            with connect(endpoint) as peer:
                good = execution.run(peer, Fixed())
                for noise in NOT_OURS.values():
                    with socket.create_connection(("127.0.0.1", port)) as stranger:
                        stranger.sendall(noise)
                        assert execution.run(peer, Fixed()).value == good.value
                    assert execution.run(peer, Fixed()).value == good.value
            assert server.poll() is None
        finally:
            server.terminate()
