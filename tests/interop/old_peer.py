# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Simulators of the public generations of PPX, made of bytes: models with exact posteriors, and faults on demand.

Written with interop.flat, so nothing of the package, of flatc or of flatbuffers. On the wire it is what the public C++
peer is: parameters and values of shape (1,), categorical ones scalar, no file identifier, `Observe.value` left out,
empty names, a RunResult without result, Reset for what comes out of turn; functions that are not exported have an
absolute address in the stack, which changes at each start (--not-exported). Generation 0.1 marks the draws of
Marsaglia's loop with `replace`. It trusts its input as that peer does.

usage: old_peer.py ENDPOINT --model gaussian|marsaglia|branching [--generation 1.0|0.1] [--not-exported]
       [--fault exit|kill|hang|rubbish|half|empty|wrong --at KIND [--at-run K]]   (at the first message of that kind)
"""

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path

import zmq

sys.path.insert(0, str(Path(__file__).parent))
import flat
from flat import law, tensor


class AbandonError(Exception):
    """The inference side sent something else than the answer: the run is over."""


class Peer:
    """The conversation; `statement` sends what a model says and returns the answer."""

    def __init__(self, options):
        self.options = options
        self.tables = flat.TABLES_0_1 if options.generation == "0.1" else flat.TABLES
        self.runs = -1
        self.known = {}
        self.socket = zmq.Context().socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(options.endpoint)
        # As dladdr leaves it for a function that is not exported: nothing but where the loader put it this time.
        self.frame = f"(null)+0x{0x7F0000000000 + 4096 * os.getpid():x}" if options.not_exported else "draw()+0x2a"

    def serve(self):
        model = MODELS[self.options.model]
        while True:
            kind = flat.kind_of(self.socket.recv())
            if kind == "Handshake":
                self.send("HandshakeResult", system_name="old peer", model_name=self.options.model)
            elif kind == "Run":
                self.runs += 1
                try:
                    model(self)
                    self.send("RunResult")
                except AbandonError:
                    self.send("Reset")
            else:
                self.send("Reset")

    def send(self, kind, **fields):
        message = self.bytes_of(kind, fields)
        if kind == self.options.at and (self.runs == self.options.at_run or kind == "HandshakeResult"):
            self.options.at = ""
            message = self.fault(message)
        self.socket.send(message)

    def bytes_of(self, kind, fields):
        if kind in ("Observe", "Tag"):  # they carry a new value each time
            return flat.message(kind, fields, tables=self.tables)
        key = (kind, fields.get("address"), fields.get("replace"))
        if key not in self.known:
            self.known[key] = flat.message(kind, fields, tables=self.tables)
        return self.known[key]

    def statement(self, kind, expected, **fields):
        self.send(kind, **fields)
        answer = self.socket.recv()
        if flat.kind_of(answer) != expected:
            raise AbandonError
        return answer

    def address(self, line):
        return f"[_start+0x25; forward()+0x{line:x}; {self.frame}]"

    def sample(self, line, name, distribution, *parameters, replace=False):
        marked = {"replace": replace} if self.options.generation == "0.1" else {}
        answer = self.statement(
            "Sample",
            "SampleResult",
            address=self.address(line),
            name=name,
            control=True,
            **law(distribution, *map(tensor, parameters)),
            **marked,
        )
        data, shape = flat.result_of(answer)
        assert shape == [1], f"a value of shape {shape} came back"
        return data[0]

    def observe(self, line, name, distribution, *parameters):
        described = law(distribution, *map(tensor, parameters))
        self.statement("Observe", "ObserveResult", address=self.address(line), name=name, **described)

    def tag(self, name, value):
        self.statement("Tag", "TagResult", address=self.address(0x99), name=name, value=tensor(value))

    def fault(self, message):
        kind = self.options.fault
        if kind == "exit":
            sys.exit("the licence server has gone")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)
        wrong = flat.message("TagResult")  # nothing that a simulator ever sends
        return {"rubbish": b"\x5a" * 200, "half": message[: len(message) // 2], "empty": b"", "wrong": wrong}[kind]


def gaussian(peer):
    mu = peer.sample(0x10, "", "Normal", 1.0, math.sqrt(5.0))
    observe_mean(peer, mu)


def marsaglia(peer):
    while True:
        x = peer.sample(0x20, "", "Uniform", -1.0, 1.0, replace=True)
        y = peer.sample(0x30, "", "Uniform", -1.0, 1.0, replace=True)
        s = x * x + y * y
        if 0.0 < s < 1.0:
            break
    observe_mean(peer, 1.0 + math.sqrt(5.0) * x * math.sqrt(-2.0 * math.log(s) / s))


def observe_mean(peer, mu):
    peer.tag("mu", mu)
    for line, name in ((0x40, "obs0"), (0x50, "obs1")):
        peer.observe(line, name, "Normal", mu, math.sqrt(2.0))


def branching(peer):
    r = peer.sample(0x60, "", "Poisson", 4.0)
    peer.tag("r", r)
    rate = 6.0 if r > 4 else 1.0 + (1, 2, 8, 34, 144)[int(r)] + peer.sample(0x70, "", "Poisson", 4.0)
    peer.observe(0x80, "obs", "Poisson", rate)


MODELS = {"gaussian": gaussian, "marsaglia": marsaglia, "branching": branching}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--generation", choices=["1.0", "0.1"], default="1.0")
    parser.add_argument("--not-exported", action="store_true")
    parser.add_argument("--fault", default="")
    parser.add_argument("--at", default="")
    parser.add_argument("--at-run", type=int, default=0)
    Peer(parser.parse_args()).serve()


if __name__ == "__main__":
    main()
