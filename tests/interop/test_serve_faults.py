# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Python models served by `etalumis serve`: failures of a run, and the behaviour afterwards."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from served import SERVE, TIMEOUT_S, ZOO, Client, ended, served

from etalumis import __version__, execution
from etalumis.address import AddressTable
from etalumis.errors import RefusedError
from etalumis.execution import PriorController
from etalumis.inference import importance
from etalumis.ppx import Simulator, connect
from etalumis.ppx.messages import (
    BODIES,
    Handshake,
    HandshakeResult,
    Reset,
    Run,
    RunResult,
    Sample,
    SampleResult,
    TagResult,
)

HALF = SampleResult(np.asarray(0.5))
GREETING = HandshakeResult(f"etalumis {__version__}", "two")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of models."""
    path = tmp_path_factory.mktemp("models")
    (path / "zoo.py").write_text(ZOO, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Callable[[str], tuple["subprocess.Popen[str]", str]]]:
    """Return process and endpoint of a model. The tests that do not end it share one process per model."""
    with ExitStack() as stack:
        started: dict[str, tuple[subprocess.Popen[str], str]] = {}

        def start(model: str) -> tuple["subprocess.Popen[str]", str]:
            if model not in started:
                started[model] = stack.enter_context(served(folder, f"zoo:{model}"))
            return started[model]

        yield start


@contextmanager
def session(endpoint: str) -> Iterator[Client]:
    """Connect a client that takes over from the one before."""
    with Client(endpoint) as client:
        assert isinstance(client.ask(Handshake("test")), HandshakeResult)
        yield client


RUBBISH = [
    (b"",),
    (b"nonsense that is no message at all",),
    (b"\xff" * 64,),
    (b"two", b"parts"),
    (HALF,),
    (TagResult(),),
    (RunResult(None),),
]


@pytest.mark.parametrize("model", ["two", "stubborn", "turns_errors", "careless"])
def test_invalid_messages_are_answered_with_reset_and_the_next_run_is_correct(running, model: str):
    process, endpoint = running(model)
    with session(endpoint) as client:
        for parts in RUBBISH:
            if parts != (HALF,):
                assert isinstance(client.ask(Run()), Sample)
                assert isinstance(client.ask(*parts), Reset), parts
            assert isinstance(client.ask(*parts), Reset), parts  # also outside a run
        for wrong in (SampleResult(None), SampleResult(np.ones(3)), Reset(), Run()):
            assert isinstance(client.ask(Run()), Sample)
            assert isinstance(client.ask(HALF), Sample)
            assert isinstance(client.ask(wrong), Reset)
        answer = client.ask(Run())
        draws = 0
        while isinstance(answer, Sample):
            draws += 1
            answer = client.ask(HALF)
        assert isinstance(answer, RunResult)
        assert answer.result is not None
        assert answer.result.tolist() == 0.5 * draws
        assert process.poll() is None


def of_a_newer_schema(body: int, known: int) -> bytes:
    """Return a message whose body has its known fields and 20 unknown ones."""
    builder = flatbuffers.Builder(64)
    text = builder.CreateString("from the future")
    builder.StartObject(40)
    for slot in [*range(known), *range(20, 40)]:
        builder.PrependUOffsetTRelativeSlot(slot, text, 0)
    table = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(1, table, 0)
    builder.PrependUint8Slot(0, body, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_fields_of_a_newer_peer_are_ignored(running):
    handshake, run = BODIES.index(Handshake) + 1, BODIES.index(Run) + 1
    with session(running("two")[1]) as client:
        assert client.ask(of_a_newer_schema(handshake, 1)) == GREETING
        assert isinstance(client.ask(of_a_newer_schema(200, 2)), Reset)
        assert isinstance(client.ask(of_a_newer_schema(run, 0)), Sample)
        assert isinstance(client.ask(of_a_newer_schema(200, 2)), Reset)


def test_the_connection_of_a_peer_that_sends_too_large_a_message_is_dropped(running):
    process, endpoint = running("two")
    with session(endpoint) as client, session(endpoint) as other:
        client.send(bytes(17 << 20))
        assert isinstance(other.ask(Run()), Sample)
        assert process.poll() is None


@pytest.mark.parametrize("model", ["two", "stubborn", "turns_errors"])
def test_a_handshake_during_a_run_begins_a_new_session(running, model: str):
    with session(running(model)[1]) as client:
        first = client.ask(Run())
        assert client.ask(Handshake("again")) == GREETING._replace(model_name=model)
        assert client.ask(Run()) == first


def test_two_clients_do_not_affect_each_other(running):
    _, endpoint = running("two")
    with Client(endpoint) as second, session(endpoint) as first:
        assert isinstance(first.ask(Run()), Sample)
        assert isinstance(second.ask(Run()), Reset)  # busy
        assert second.ask(Handshake("second")) == GREETING  # takes over
        assert isinstance(second.ask(Run()), Sample)
        # a late message of the first client is not used in the run of the second
        assert isinstance(first.ask(SampleResult(np.asarray(0.9))), Reset)
        assert isinstance(second.ask(HALF), Sample)
        assert isinstance(first.ask(b"rubbish"), Reset)
        assert second.ask(HALF) == RunResult(np.asarray(1.0))
        assert isinstance(first.ask(Run()), Sample)


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_the_next_client_is_served_after_one_that_was_killed_during_a_run(folder: Path, tmp_path: Path, transport: str):
    address = f"ipc://{tmp_path / 'socket'}" if transport == "ipc" else "tcp://127.0.0.1:*"
    client = """
        import os, signal, sys
        from etalumis import execution
        from etalumis.ppx import connect
        class Killed:
            def sample(self, site):
                if site.position == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                return 0.5
        execution.run(connect(sys.argv[1]), Killed())
    """
    with served(folder, "zoo:two", address) as (_, endpoint):
        for _ in range(2):
            words = [sys.executable, "-c", textwrap.dedent(client), endpoint]
            assert subprocess.run(words, timeout=TIMEOUT_S, check=False).returncode == -signal.SIGKILL
        with connect(endpoint) as peer:
            trace = execution.run(peer, PriorController(np.random.default_rng(1)), AddressTable())
            assert trace.result == sum(trace.value)


def test_the_client_reports_an_error_in_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    with Simulator([*SERVE, "zoo:fails", "{endpoint}"]) as peer:
        with pytest.raises(RefusedError) as failed:
            execution.run(peer, PriorController(np.random.default_rng(1)), AddressTable())
        message = str(failed.value)
        assert "the simulator fails stopped in run 1 after 3 draws" in message
        assert "the model fails raised ValueError: the magnet is off; its last statement was at [fails+7:" in message
        assert 'zoo.py", line ' in message  # where it failed
        peer.restart()
        assert peer.name == "fails"


def test_an_error_in_the_model_is_not_retried(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(folder)
    calls = tmp_path / "calls"
    command = [*SERVE, "zoo:fails", "--arg", f"calls={calls}", "{endpoint}"]
    with Simulator(command) as peer, pytest.raises(RefusedError, match="the magnet is off"):
        importance(peer, {}, runs=5, seed=1, retries=3)
    assert calls.read_text(encoding="utf-8") == "called\n"


def test_an_error_before_any_statement(folder: Path):
    with (
        served(folder, "zoo:fails", "tcp://127.0.0.1:*", "--arg", "at=0") as (process, endpoint),
        Client(endpoint) as client,
    ):
        answer = client.ask(Run())
        code, error = ended(process)
    assert code == 1
    message = "the model fails raised ValueError: the magnet is off; before any statement"
    assert message in error
    assert answer == Reset(message)


@pytest.mark.parametrize(
    ("text", "sent"), [("caf\udce9", r"ValueError: caf\udce9; before any statement"), ("y" * 9_000, "yyy ...")]
)
def test_the_text_of_an_error_that_is_not_utf_8_or_long(folder: Path, text: str, sent: str):
    words = ["--arg", "at=0", "--arg", f"text={text}"]
    with served(folder, "zoo:fails", "tcp://127.0.0.1:*", *words) as (_, endpoint), Client(endpoint) as client:
        answer = client.ask(Run())
    assert isinstance(answer, Reset)
    assert answer.reason.endswith(sent)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("model", "busy"), [("two", False), ("two", True), ("careless", True)])
def test_a_signal_ends_it_cleanly(folder: Path, tmp_path: Path, number: signal.Signals, busy: bool, model: str):
    socket = tmp_path / "socket"
    with served(folder, f"zoo:{model}", f"ipc://{socket}") as (process, endpoint), Client(endpoint) as client:
        assert stat.S_ISSOCK(socket.stat().st_mode)
        if busy:
            client.ask(Run())
        os.kill(process.pid, number)
        code, error = ended(process)
    assert (code, "Traceback" in error) == (0, False), error
    assert "stopping" in error
    assert not socket.exists()


def test_the_idle_timeout_and_the_warning_about_open_interfaces(folder: Path):
    process = subprocess.run(
        [*SERVE, "zoo:two", "tcp://*:*", "--idle-timeout", "0.2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "anyone who can reach this port can run the model; there is no authentication" in process.stderr
