# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Arguments of `etalumis serve`: models by name, addresses, options."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from served import TIMEOUT_S, Client

from etalumis import execution
from etalumis.cli import _parse, main
from etalumis.errors import ConfigError, SimulatorError
from etalumis.models import examples
from etalumis.models.load import load_model
from etalumis.ppx.connection import Connection
from etalumis.ppx.listen import Listener, endpoint_of, is_open_to_others

MODULE = """\
from etalumis.distributions import Uniform
from etalumis.models import examples, sample

class Boxes:
    @staticmethod
    def drop(height, count=1):
        return sum(sample(Uniform(0.0, height)) for _ in range(count))

def shower():
    return sample(Uniform(0.0, 1.0))

model = examples.model("branching")
number = 3
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module of models in the current folder."""
    name = f"zoo_{tmp_path.name}"  # modules stay imported, so each test needs another one
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


class Middle:
    """Answers with the middle of a uniform prior."""

    def sample(self, site):
        return sum(site.distribution.parameters) / 2

    def observe(self, name, distribution, given):
        return given


def test_functions_models_and_dotted_names_are_found(zoo: str) -> None:
    assert load_model(f"{zoo}:shower").name == "shower"
    assert load_model(f"{zoo}:model").name == "branching"
    boxes = load_model(f"{zoo}:Boxes.drop", {"height": 4.0, "count": 3})
    trace = execution.run(boxes, Middle())
    assert (boxes.name, trace.result) == ("Boxes.drop", 6.0)


def test_arguments_do_not_change_the_addresses() -> None:
    named, plain = load_model("etalumis.models.examples:branching"), examples.model("branching")

    class Six(Middle):
        def sample(self, site):
            return 6.0

    traces = [execution.run(model, Six()) for model in (named, plain)]
    names = [[trace.addresses.name(number) for number in trace.address] for trace in traces]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("{zoo}", {}, "expected MODULE:FUNCTION"),
        ("{zoo}:", {}, "expected MODULE:FUNCTION"),
        ("no_such_module:f", {}, "'no_such_module': no such module in .* nor installed"),
        ("{zoo}.py:shower", {}, r"write \w+:FUNCTION, without \.py"),
        ("{zoo}:showers", {}, r"has no 'showers'; it has shower"),
        ("{zoo}:number", {}, "expected a function, found int"),
        ("{zoo}:Boxes.drop", {}, r"missing a required argument: 'height'; it takes \(height, count=1\)"),
        ("{zoo}:shower", {"size": 3}, "unexpected keyword argument 'size'"),
        ("{zoo}:model", {"size": 3}, "takes no arguments"),
    ],
)
def test_wrong_models_are_explained(zoo: str, target: str, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(target.format(zoo=zoo), arguments)


def test_a_failed_import_in_a_module_is_reported_as_such(zoo: str) -> None:
    Path("needs.py").write_text("import not_installed_anywhere\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load_model("needs:f")


@pytest.mark.parametrize(
    ("address", "endpoint", "is_open"),
    [
        ("5555", "tcp://127.0.0.1:5555", False),
        (":6000", "tcp://127.0.0.1:6000", False),
        ("ipc:///somewhere/socket", "ipc:///somewhere/socket", False),
        ("tcp://localhost:5555", "tcp://localhost:5555", False),
        ("tcp://[::1]:5555", "tcp://[::1]:5555", False),
        ("tcp://*:5555", "tcp://*:5555", True),
        ("tcp://0.0.0.0:5555", "tcp://0.0.0.0:5555", True),
        ("tcp://192.0.2.7:5555", "tcp://192.0.2.7:5555", True),
    ],
)
def test_other_machines_can_connect_only_if_an_interface_is_given(address: str, endpoint: str, is_open: bool) -> None:
    assert endpoint_of(address) == endpoint
    assert is_open_to_others(endpoint) == is_open


@pytest.mark.parametrize(
    "address",
    [
        "", "localhost:5555", "*:5555", "udp://127.0.0.1:5555", "tcp://127.0.0.1", "ipc://",
        "65536", ":99999", "tcp://127.0.0.1:99999",
    ],
)  # fmt: skip
def test_invalid_addresses_are_explained(address: str) -> None:
    with pytest.raises(ConfigError, match="expected ipc://PATH, tcp://INTERFACE:PORT, or only a port"):
        endpoint_of(address)


def test_a_client_refuses_a_port_that_does_not_exist() -> None:
    with pytest.raises(SimulatorError, match="expected a port from 0 to 65535"):
        Connection("tcp://127.0.0.1:99999", None)


def test_an_endpoint_in_use_is_refused(tmp_path: Path) -> None:
    first = Listener(f"ipc://{tmp_path / 'socket'}")
    with first, pytest.raises(SimulatorError, match="in use by another process"):
        Listener(first.endpoint)
    with Listener("tcp://127.0.0.1:*") as first, pytest.raises(SimulatorError, match="Address already in use"):
        Listener(first.endpoint)
    assert not (tmp_path / "socket").exists()


def test_a_stale_socket_is_replaced_and_a_new_one_of_another_process_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with Listener(f"ipc://{path}"):
        path.unlink()
        path.write_text("another's", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "another's"


def test_the_last_message_is_sent_before_the_socket_is_closed(tmp_path: Path) -> None:
    message = bytes(64 << 20)  # does not fit into the buffers of the system
    listener = Listener(f"ipc://{tmp_path / 'socket'}")
    with Client(listener.endpoint) as client:
        client.send(b"hello")
        request = listener.receive(TIMEOUT_S)
        assert request is not None
        listener.send_last(request.sender, message)
        assert client.receive() == message


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"cannot listen on ipc://.*/nowhere/socket: .*a folder that exists"):
        Listener(f"ipc://{tmp_path}/nowhere/socket")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["zoo"], 1, "expected MODULE:FUNCTION"),
        (["etalumis.models.examples:branching", "nonsense"], 1, "address 'nonsense'"),
        (["etalumis.models.examples:branching", "--arg", "three"], 2, "expected KEY=VALUE, found 'three'"),
        (["etalumis.models.examples:branching", "--idle-timeout", "-1"], 2, "expected seconds"),
        (["zoo:f", "--arg", "days=1", "--arg", "days=2"], 1, "--arg days: given 2 times"),
        ([], 2, "MODULE:FUNCTION"),
    ],
)
def test_wrong_calls(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = main(["serve", *words])
    except SystemExit as stopped:
        found = stopped.code
    assert found == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "words",
    [
        ["model:f", "address", "--arg", "days=20", "--idle-timeout", "2"],
        ["model:f", "--arg", "days=20", "address", "--idle-timeout", "2"],
        ["model:f", "--idle-timeout", "2", "--arg", "days=20", "address"],
        ["--arg", "days=20", "model:f", "--idle-timeout", "2", "address"],
        ["--arg", "days=20", "--idle-timeout", "2", "model:f", "address"],
    ],
)
def test_options_in_any_order(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words]) == 1
    assert "address 'address'" in capsys.readouterr().err
    assert main(["serve", *(word for word in words if word != "address")]) == 1
    assert "model module 'model': no such module" in capsys.readouterr().err


def test_options_between_the_files_of_a_list() -> None:
    assert _parse(["traces", "info", "a.h5", "--json", "b.h5"]).paths == [Path("a.h5"), Path("b.h5")]
    couple = _parse(["simulator", "couple", "--output", "o", "--", "program", "--runs", "3"])
    assert (couple.command, couple.runs) == (["program", "--runs", "3"], 20)


def test_a_model_is_served_without_imports_that_take_long(tmp_path: Path):
    """SciPy's functions alone take as long to import as all else; PyTorch takes ten times as long."""
    program = (
        "import sys; import etalumis.cli.serve, etalumis.models.load, etalumis.ppx.listen; "
        "print(*({'scipy.special', 'scipy.stats', 'torch', 'h5py', 'matplotlib', 'mpi4py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\n"
