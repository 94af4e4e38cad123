# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The bytes of both generations of PPX (fixtures/), read and written by the package, by flatc's code and by peers."""

import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import zmq
from interop import flat
from interop.fixtures import make

from etalumis.distributions import BY_CODE, IN_PPX_1_0
from etalumis.ppx import messages as m
from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import encode, sample_result

GENERATIONS = list(make.GENERATIONS)
needs_flatc = pytest.mark.skipif(shutil.which("flatc") is None, reason="flatc is not installed: call `make setup`")


def committed(generation):
    return json.loads((make.FOLDER / f"{generation}.json").read_text(encoding="utf-8"))["messages"]


FIXTURES = [(generation, fixture) for generation in GENERATIONS for fixture in committed(generation)]
NAMES = [f"{generation}-{fixture['kind']}-{number}" for number, (generation, fixture) in enumerate(FIXTURES)]


def as_array(tensor):
    return np.asarray(tensor["data"], float).reshape(tensor["shape"] if tensor["data"] else (0,))


def assert_holds(message, kind, fields):
    """Compare a decoded message with the content of a fixture."""
    assert type(message).__name__ == kind
    for name, value in fields.items():
        if name == "distribution":
            law, parameters = value
            assert message.distribution.kind == law
            if kind == "Observe":
                assert [a.tolist() for a in message.distribution.arrays] == [
                    as_array(parameters[p]).tolist() for p in flat.DISTRIBUTIONS[law]
                ]
            else:
                flattened = [x for p in flat.DISTRIBUTIONS[law] for x in parameters[p]["data"]]
                assert list(message.distribution.parameters) == flattened
                shape = tuple(parameters[flat.DISTRIBUTIONS[law][0]]["shape"])
                assert message.shape == (shape[:-1] if law == "Categorical" else shape)
        elif name == "distribution_type":
            assert message.distribution.code == value
        elif isinstance(value, dict):
            found = getattr(message, name)
            assert (None if found is None else found.tolist()) == (as_array(value).tolist() if value["data"] else None)
        else:
            assert getattr(message, name) == value
    for name in set(message._fields) - set(fields) - {"shape"}:
        # Fields that this generation does not have are ignored.
        assert getattr(message, name) == message._field_defaults.get(name)


@pytest.mark.parametrize(("generation", "fixture"), FIXTURES, ids=NAMES)
def test_every_layout_of_every_message_is_read(generation, fixture):
    decoder = Decoder()
    for name, text in fixture["bytes"].items():
        for _ in range(2):  # the second time from the caches
            assert_holds(decoder.decode(bytes.fromhex(text)), fixture["kind"], fixture["fields"])
        identified = bytes.fromhex(text)[4:8] == b"PPXF"
        assert identified == name.endswith("PPXF")


def test_the_fixtures_have_every_kind_in_different_layouts():
    for generation in GENERATIONS:
        found = [fixture for name, fixture in FIXTURES if name == generation]
        assert {fixture["kind"] for fixture in found} == set(flat.TABLES) == {body.__name__ for body in m.BODIES}
        drawn = {f["fields"]["distribution"][0] for f in found if f["kind"] == "Sample"}
        assert drawn == {law.__name__ for code, law in BY_CODE.items() if code <= IN_PPX_1_0}
        for fixture in found:
            if fixture["fields"]:
                assert len(set(fixture["bytes"].values())) >= 4
    assert {f["fields"]["replace"] for _, f in FIXTURES if "replace" in f["fields"]} == {True, False}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_committed_bytes_are_those_of_the_script(generation):
    def without_flatc(fixtures):
        return [{**f, "bytes": {name: text for name, text in f["bytes"].items() if name != "flatc"}} for f in fixtures]

    made = json.loads(json.dumps(make.fixtures(generation, with_flatc=False)))
    assert without_flatc(committed(generation)) == made, "run tests/interop/fixtures/make.py"


@pytest.fixture(scope="module", params=GENERATIONS)
def generated(request, tmp_path_factory):
    """The code that flatc makes of the schema of one generation, and its name."""
    folder = tmp_path_factory.mktemp("generated")
    schema = make.FOLDER / f"{request.param}.fbs"
    subprocess.run(["flatc", "--python", "--gen-onefile", "--gen-object-api", "-o", folder, schema], check=True)
    spec = importlib.util.spec_from_file_location(request.param, folder / f"{request.param}_generated.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[request.param] = module
    spec.loader.exec_module(module)
    yield request.param, module
    del sys.modules[request.param]


def unpacked(code, data):
    """Read a message with generated code into plain dictionaries, as a fixture has them."""
    message = code.MessageT.InitFromObj(code.Message.GetRootAs(data, 0))

    def plain(value):
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, code.TensorT):
            return {"data": [] if value.data is None else list(map(float, value.data)), "shape": shape_of(value)}
        return value

    def fields_of(value):  # flatc 2.0.8 says systemName
        return {re.sub("([A-Z])", r"_\1", name).lower(): plain(held) for name, held in vars(value).items()}

    def shape_of(value):
        return [] if value.shape is None else list(map(int, value.shape))

    kind = type(message.body).__name__.removesuffix("T")
    fields = fields_of(message.body)
    if fields.get("distribution") is not None:
        law = fields["distribution"]
        fields["distribution"] = [type(law).__name__.removesuffix("T"), fields_of(law)]
    return kind, {name: value for name, value in fields.items() if value is not None}


def of_fixture(kind, fields):
    """Build the message of a fixture as an object of the package."""
    values = dict(fields)
    law = values.pop("distribution", None)
    code = values.pop("distribution_type", 0)
    values = {k: as_array(v) if isinstance(v, dict) and v["data"] else v for k, v in values.items()}
    values = {k: None if isinstance(v, dict) else v for k, v in values.items()}
    body = getattr(m, kind)
    if kind == "Observe":
        arrays = tuple(as_array(law[1][p]) for p in flat.DISTRIBUTIONS[law[0]])
        values["distribution"] = m.ArrayDistribution(code, arrays)
    elif law is not None:
        tensors = [law[1][p] for p in flat.DISTRIBUTIONS[law[0]]]
        from_wire = BY_CODE[code]
        parameters = [x for tensor in tensors for x in tensor["data"]]
        values["distribution"] = from_wire(tuple(parameters)) if law[0] == "Categorical" else from_wire(*parameters)
        shape = tuple(tensors[0]["shape"])
        values["shape"] = shape[:-1] if law[0] == "Categorical" else shape
    elif kind == "RunResult":
        values.setdefault("result", None)
    return body(**values)


@needs_flatc
def test_flatc_reads_the_fixtures_and_our_messages(generated):
    """Both directions, with code for the fields of that generation only."""
    generation, code = generated
    for fixture in committed(generation):
        expected = {"control": True, "replace": False} if fixture["kind"] == "Sample" else {}
        expected = {k: v for k, v in expected.items() if k in dict(make.GENERATIONS[generation]["Sample"])}
        expected |= fixture["fields"]
        for text in fixture["bytes"].values():
            assert unpacked(code, bytes.fromhex(text)) == (fixture["kind"], expected)
        ours = encode(of_fixture(fixture["kind"], fixture["fields"]))
        kind, fields = unpacked(code, ours)
        if expected.get("result", {}).get("data") == []:
            expected = {}  # an empty tensor and no tensor are both None
        assert (kind, fields) == (fixture["kind"], expected)


@needs_flatc
def test_flatc_reads_every_answer_of_the_hot_path(generated):
    _, code = generated
    rng = np.random.default_rng(3)
    values = [*rng.standard_normal(20), 0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308]
    for value in values:
        for shape in ((), (1,), (1, 1)):
            kind, fields = unpacked(code, sample_result(float(value), shape))
            assert kind == "SampleResult"
            assert np.array_equal(fields["result"]["data"], [value], equal_nan=True)
            assert fields["result"]["shape"] == list(shape)


class Wire:
    """An inference side that sends messages of one layout, with given values."""

    def __init__(self, endpoint, tables, layout):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self.socket.connect(endpoint)
        self.tables, self.layout = tables, layout

    def ask(self, kind, **fields):
        self.socket.send(flat.message(kind, fields, self.layout, self.tables))
        answer = self.socket.recv()
        return flat.kind_of(answer), answer

    def close(self):
        self.socket.close()
        self.context.term()


@pytest.mark.parametrize("front_end", ["C++", "Python"])
def test_an_older_inference_side_never_sees_an_appended_distribution(cpp_examples, tmp_path, front_end):
    """The front end ends the run with an error instead of sending a message that its client cannot read."""
    (tmp_path / "model.py").write_text(
        "from etalumis.distributions import Normal, StudentT\nfrom etalumis.models import sample\n"
        "def forward():\n    sample(Normal(0.0, 1.0))\n    sample(StudentT(3.0, 0.0, 1.0))\n"
    )
    endpoint = f"ipc://{tmp_path / 'socket'}"
    python = [sys.executable, "-m", "etalumis", "serve", "model:forward", endpoint]
    command = python if front_end == "Python" else [cpp_examples / "all_distributions", endpoint]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            wire = Wire(endpoint, flat.TABLES, flat.LAYOUTS["builder"])
            wire.ask("Handshake", system_name="pyprob 1.5.0")
            assert wire.ask("Run")[0] == "Sample"
            known = 1 if front_end == "Python" else 11
            for _ in range(known - 1):
                assert wire.ask("SampleResult", result=flat.tensor(0.25, shape=()))[0] == "Sample"
            wire.socket.send(flat.message("SampleResult", {"result": flat.tensor(0.25, shape=())}))
            if front_end == "Python":
                assert flat.kind_of(wire.socket.recv()) == "Reset"
            assert server.wait(timeout=20) == 1
            wire.close()
            kind = "StudentT" if front_end == "Python" else "NegativeBinomial"
            assert f"the inference side does not know the distribution {kind}" in server.stderr.read()
        finally:
            server.kill()


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_the_cpp_front_end_reads_every_layout_of_what_it_receives(cpp_examples, tmp_path, generation, transport):
    endpoint = f"ipc://{tmp_path / 'socket'}" if transport == "ipc" else "tcp://127.0.0.1:*"
    command = [cpp_examples / "gaussian", endpoint]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            place = server.stderr.readline().split()[-1]
            for layout in flat.LAYOUTS.values():
                wire = Wire(place, make.GENERATIONS[generation], layout)
                assert wire.ask("Handshake", system_name="pyprob 1.5.0")[0] == "HandshakeResult"
                for shape in ((), (1,)):
                    assert wire.ask("Run")[0] == "Sample"
                    assert wire.ask("SampleResult", result=flat.tensor(0.75, shape=shape))[0] == "Tag"
                    assert wire.ask("TagResult")[0] == "Observe"
                    assert wire.ask("ObserveResult")[0] == "Observe"
                    kind, answer = wire.ask("ObserveResult")
                    assert kind == "RunResult"
                    assert flat.result_of(answer) == ([0.75], [])
                assert wire.ask("Run")[0] == "Sample"
                assert wire.ask("Reset")[0] == "Reset"
                wire.close()
        finally:
            server.terminate()
