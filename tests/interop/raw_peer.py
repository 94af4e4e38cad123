# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Another PPX peer: a simulator written with flatc's code and a bare REP socket, sharing nothing with `etalumis.ppx`.

It behaves as the public C++ peer does on the wire: parameters and values of shape (1,), no file identifier (or one,
with --identifier), none of the appended fields, `Observe.value` left out, an empty tensor for None, Reset for what it
does not expect. `--fault` makes it misbehave at a draw of its first run.

usage: raw_peer.py ENDPOINT [--fault KIND] [--identifier] [--child FILE] [--answer-later SECONDS]
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flatbuffers
import numpy as np
import zmq

# Only the module: importing its package would load the whole client at every start.
sys.path.insert(0, str(Path(__file__).parents[2] / "src/etalumis/ppx/generated"))
import ppx_generated as fb

KINDS = {name: number for name, number in vars(fb.Distribution).items() if not name.startswith("_")}


def tensor(builder, values, shape=None):
    array = np.asarray(values, dtype=np.float64)
    data = builder.CreateNumpyVector(array.ravel())
    dimensions = builder.CreateNumpyVector(np.asarray(array.shape if shape is None else shape, dtype=np.int32))
    fb.TensorStart(builder)
    fb.TensorAddShape(builder, dimensions)
    fb.TensorAddData(builder, data)
    return fb.TensorEnd(builder)


def distribution(builder, kind, parameters):
    tensors = [(field, tensor(builder, value)) for field, value in parameters.items()]
    getattr(fb, f"{kind}Start")(builder)
    for field, offset in reversed(tensors):
        getattr(fb, f"{kind}Add{field}")(builder, offset)
    return getattr(fb, f"{kind}End")(builder)


class Peer:
    def __init__(self, options):
        self.options = options
        self.first_run = True
        self.socket = zmq.Context().socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(options.endpoint)

    def send(self, kind, fill):
        builder = flatbuffers.Builder(64)
        add = fill(builder)
        getattr(fb, f"{kind}Start")(builder)
        add()
        body = getattr(fb, f"{kind}End")(builder)
        fb.MessageStart(builder)
        fb.MessageAddBody(builder, body)
        fb.MessageAddBodyType(builder, getattr(fb.MessageBody, kind))
        builder.Finish(fb.MessageEnd(builder), b"PPXF" if self.options.identifier else None)
        self.socket.send(bytes(builder.Output()))

    def send_empty(self, kind):
        self.send(kind, lambda builder: lambda: None)

    def receive(self):
        message = fb.Message.GetRootAs(self.socket.recv(), 0)
        for name, number in vars(fb.MessageBody).items():
            if not name.startswith("_") and number == message.BodyType():
                return name, message.Body()
        raise AssertionError(message.BodyType())

    def body(self, kind, table):
        found = getattr(fb, kind)()
        found.Init(table.Bytes, table.Pos)
        return found

    def serve(self):
        while True:
            kind, _ = self.receive()
            if kind == "Handshake":
                time.sleep(self.options.answer_later)
                self.handshake()
            elif kind == "Run":
                try:
                    self.run()
                except RuntimeError:
                    self.send_empty("Reset")
                self.first_run = False
            else:
                self.send_empty("Reset")

    def handshake(self):
        def fill(builder):
            system, model = builder.CreateString("raw peer"), builder.CreateString("every kind")

            def add():
                fb.HandshakeResultAddSystemName(builder, system)
                fb.HandshakeResultAddModelName(builder, model)

            return add

        self.send("HandshakeResult", fill)

    def sample(self, address, kind, name="", control=True, **parameters):
        def fill(builder):
            law = distribution(builder, kind, parameters)
            texts = builder.CreateString(address), builder.CreateString(name)

            def add():
                fb.SampleAddControl(builder, control)
                fb.SampleAddDistribution(builder, law)
                fb.SampleAddDistributionType(builder, KINDS[kind])
                fb.SampleAddName(builder, texts[1])
                fb.SampleAddAddress(builder, texts[0])

            return add

        self.send("Sample", fill)
        answer, table = self.receive()
        if answer != "SampleResult":
            raise RuntimeError(answer)
        result = self.body("SampleResult", table).Result()
        expected = () if kind == "Categorical" else np.broadcast_shapes(*map(np.shape, parameters.values()))
        shape = tuple(result.Shape(i) for i in range(result.ShapeLength()))
        assert shape == expected, f"{kind}: a value of shape {shape} came back"
        assert result.DataLength() == np.prod(expected)
        return result.Data(0)

    def observe(self, address, name, kind, value=None, **parameters):
        def fill(builder):
            law = distribution(builder, kind, parameters)
            texts = builder.CreateString(address), builder.CreateString(name)
            given = None if value is None else tensor(builder, value)

            def add():
                fb.ObserveAddAddress(builder, texts[0])
                fb.ObserveAddName(builder, texts[1])
                fb.ObserveAddDistributionType(builder, KINDS[kind])
                fb.ObserveAddDistribution(builder, law)
                if given is not None:
                    fb.ObserveAddValue(builder, given)

            return add

        self.send("Observe", fill)
        answer, _ = self.receive()
        if answer != "ObserveResult":
            raise RuntimeError(answer)

    def tag(self, name, value):
        def fill(builder):
            texts = builder.CreateString("[tag+0x1]"), builder.CreateString(name)
            kept = tensor(builder, value)

            def add():
                fb.TagAddAddress(builder, texts[0])
                fb.TagAddName(builder, texts[1])
                fb.TagAddValue(builder, kept)

            return add

        self.send("Tag", fill)
        answer, _ = self.receive()
        if answer != "TagResult":
            raise RuntimeError(answer)

    def run(self):
        mu = self.sample("[forward()+0x10]", "Normal", "mu", Mean=[1.0], Stddev=[5**0.5])
        self.sample("[forward()+0x20]", "Uniform", control=False, Low=[-1.0], High=[2.0])
        self.fault()
        self.sample("[forward()+0x30]", "Categorical", "channel", Probs=[0.2, 0.3, 0.5])
        self.sample("[forward()+0x40]", "Poisson", Rate=[4.0])
        self.sample("[forward()+0x50]", "Bernoulli", Probs=[0.25])
        self.sample("[forward()+0x60]", "Beta", Concentration1=[2.0], Concentration0=[3.0])
        self.sample("[forward()+0x70]", "Exponential", Rate=[2.0])
        self.sample("[forward()+0x80]", "Gamma", Concentration=[2.0], Rate=[3.0])
        self.sample("[forward()+0x90]", "LogNormal", Loc=[0.5], Scale=[0.25])
        self.sample("[forward()+0xa0]", "Binomial", TotalCount=[10.0], Probs=[0.25])
        self.sample("[forward()+0xb0]", "Weibull", Scale=[2.0], Concentration=[3.0])
        self.observe("[forward()+0xc0]", "obs0", "Normal", Mean=[mu], Stddev=[2**0.5])
        self.observe("[forward()+0xd0]", "given", "Normal", value=[1.5], Mean=[mu], Stddev=[2**0.5])
        self.observe("[forward()+0xe0]", "grid", "Normal", Mean=np.full((4, 5, 6), mu), Stddev=np.float64(0.1))
        self.tag("square", [mu * mu])

        def fill(builder):
            result = tensor(builder, [mu])
            return lambda: fb.RunResultAddResult(builder, result)

        if self.first_run:
            self.send("RunResult", fill)
        else:
            self.send_empty("RunResult")  # a null result is None

    def fault(self):
        kind = self.options.fault if self.first_run else ""
        if kind == "garbage":
            self.socket.send(bytes(range(7, 250)))
            self.socket.recv()
            self.socket.send(b"")
            self.socket.recv()
        elif kind == "exit":
            sys.stderr.write("".join(f"complaint {line}\n" for line in range(100)))
            sys.exit(3)
        elif kind == "abort":
            os.kill(os.getpid(), signal.SIGABRT)
        elif kind in ("hang", "deaf"):
            if kind == "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)
        elif kind == "reset":
            self.send_empty("Reset")
            raise RuntimeError(self.receive())
        elif kind == "vector":
            self.sample("[forward()+0x99]", "Normal", Mean=[0.0, 1.0], Stddev=[1.0, 1.0, 1.0])
        elif kind == "parameter":
            self.sample("[forward()+0x99]", "Normal", Mean=[0.0], Stddev=[-1.0])
        elif kind == "flood":
            sys.stderr.write("x" * (17 << 20))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("--fault", default="")
    parser.add_argument("--identifier", action="store_true")
    parser.add_argument("--child", help="start a child that outlives us and write its pid here")
    parser.add_argument("--answer-later", type=float, default=0.0)
    options = parser.parse_args()
    if options.child:
        child = subprocess.Popen(["sleep", "600"])
        Path(options.child).write_text(str(child.pid))
    if options.fault == "early":
        sys.exit("no licence found")
    if options.fault == "mute":
        time.sleep(600)
    Peer(options).serve()


if __name__ == "__main__":
    main()
