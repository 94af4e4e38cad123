# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Simulators of the public generations of PPX: models with exact posteriors, and faults on demand.

Written with interop.flat, without the package, flatc or flatbuffers. On the wire it behaves as the public
C++ peer does: parameters and values have the shape (1,), or () with --scalars, as that peer's do with another version
of its array library; no file identifier, `Observe.value` left out, empty names, a RunResult without result. It answers
an unexpected message with Reset outside a run, ends if anything but a SampleResult follows a Sample, and takes any
message for an ObserveResult or TagResult. Functions that are not exported have an absolute address in the stack, which
changes at each start (--not-exported). Generation 0.1 marks the draws of Marsaglia's loop with `replace`. It trusts its
input as that peer does. The models `mismatch` and `negative` make statements that are not
supported.

usage: old_peer.py ENDPOINT --model NAME [--generation 1.0|0.1] [--not-exported] [--scalars] [--any-shape]
       [--fault exit|kill|hang|rubbish|half|empty|wrong|interrupt --at KIND [--at-run K]]
       (at the first message of that kind; `interrupt` sends SIGINT to the parent process before the message)
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


class Peer:
    """The conversation; `statement` sends a statement of a model and returns the answer."""

    def __init__(self, options):
        self.options = options
        self.tables = flat.TABLES_0_1 if options.generation == "0.1" else flat.TABLES
        self.runs = -1
        self.known = {}
        self.socket = zmq.Context().socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(options.endpoint)
        self.shape = [] if options.scalars else [1]
        # As from dladdr for a function that is not exported: only the address, which depends on the loader.
        self.frame = f"(null)+0x{0x7F0000000000 + 4096 * os.getpid():x}" if options.not_exported else "draw()+0x2a"

    def serve(self):
        model = MODELS[self.options.model]
        while True:
            kind = flat.kind_of(self.socket.recv())
            if kind == "Handshake":
                self.send("HandshakeResult", system_name="old peer", model_name=self.options.model)
            elif kind == "Run":
                self.runs += 1
                model(self)
                self.send("RunResult")
            else:
                self.send("Reset")

    def send(self, kind, **fields):
        message = self.bytes_of(kind, fields)
        if kind == self.options.at and (self.runs == self.options.at_run or kind == "HandshakeResult"):
            self.options.at = ""
            message = self.fault(message)
        self.socket.send(message)

    def bytes_of(self, kind, fields):
        if kind in ("Observe", "Tag"):  # their values change
            return flat.message(kind, fields, tables=self.tables)
        key = (kind, fields.get("address"), fields.get("replace"))
        if key not in self.known:
            self.known[key] = flat.message(kind, fields, tables=self.tables)
        return self.known[key]

    def statement(self, kind, **fields):
        self.send(kind, **fields)
        answer = self.socket.recv()
        if kind == "Sample" and flat.kind_of(answer) != "SampleResult":
            sys.stdout.write("Received an unexpected request. Cannot recover.\n")
            sys.exit(1)
        return answer

    def tensor(self, value):
        return value if isinstance(value, dict) else flat.tensor(value, shape=self.shape)

    def address(self, line):
        return f"[_start+0x25; forward()+0x{line:x}; {self.frame}]"

    def sample(self, line, name, distribution, *parameters, replace=False):
        marked = {"replace": replace} if self.options.generation == "0.1" else {}
        answer = self.statement(
            "Sample",
            address=self.address(line),
            name=name,
            control=True,
            **law(distribution, *map(self.tensor, parameters)),
            **marked,
        )
        data, shape = flat.result_of(answer)
        if len(data) != 1:
            return data, shape
        assert shape == self.shape or self.options.any_shape, f"a value of shape {shape} came back"
        return data[0]

    def observe(self, line, name, distribution, *parameters):
        described = law(distribution, *map(self.tensor, parameters))
        self.statement("Observe", address=self.address(line), name=name, **described)

    def tag(self, name, value):
        self.statement("Tag", address=self.address(0x99), name=name, value=self.tensor(value))

    def fault(self, message):
        kind = self.options.fault
        if kind == "exit":
            sys.exit("the licence server has gone")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            while True:
                time.sleep(1)
        if kind == "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
            return message
        wrong = flat.message("TagResult")  # simulators never send this
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


def vector(peer):
    """The model `linear_gaussian`, and a matrix of categories that does not matter."""
    theta, shape = peer.sample(0x10, "theta", "Normal", tensor(0.0, 1.0, -1.0), tensor(1.0, 2.0, 0.5))
    assert shape == [3], shape
    kinds, shape = peer.sample(0x20, "", "Categorical", tensor(*[0.0, 1.0] * 4, shape=(2, 2, 2)))
    assert (kinds, shape) == ([1.0] * 4, [2, 2]), (kinds, shape)
    peer.observe(0x30, "obs0", "Normal", theta[0] + theta[1], 0.7)
    peer.observe(0x40, "obs1", "Normal", theta[1] - theta[2], 0.7)


def mismatch(peer):
    peer.sample(0x10, "", "Normal", 0.0, 1.0)
    peer.sample(0x20, "", "Normal", tensor(0.0, 1.0), tensor(1.0, 1.0, 1.0))


def negative(peer):
    peer.sample(0x10, "", "Normal", 0.0, 1.0)
    peer.sample(0x20, "", "Normal", 0.0, -1.0)


MODELS = {function.__name__: function for function in (gaussian, marsaglia, branching, vector, mismatch, negative)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--generation", choices=["1.0", "0.1"], default="1.0")
    parser.add_argument("--not-exported", action="store_true")
    parser.add_argument("--scalars", action="store_true")
    parser.add_argument("--any-shape", action="store_true", help="accept values of any shape, as that peer does")
    parser.add_argument("--fault", default="")
    parser.add_argument("--at", default="")
    parser.add_argument("--at-run", type=int, default=0)
    Peer(parser.parse_args()).serve()


if __name__ == "__main__":
    main()
