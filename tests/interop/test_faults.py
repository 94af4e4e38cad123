# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Faults of one connection: unreachable endpoints, truncated messages, full disks, concurrent and killed clients."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from interop import flat
from interop.zmtp import Listener

from etalumis import execution
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.execution import PriorController
from etalumis.ppx import Simulator, connect

OLD_PEER = Path(__file__).with_name("old_peer.py")
STACK = "[forward()+0x10]"
SAMPLE = flat.message(
    "Sample", {"address": STACK, "name": "mu", **flat.law("Normal", flat.tensor(1.0), flat.tensor(2.0))}
)
OBSERVE = flat.message(
    "Observe", {"address": STACK, "name": "x", **flat.law("Normal", flat.tensor(*[0.5] * 500), flat.tensor(2.0))}
)
TAG = flat.message("Tag", {"address": STACK, "name": "t", "value": flat.tensor(1.0)})
GREETING = flat.message("HandshakeResult", {"system_name": "bytes", "model_name": "half"})
REPLIES = {
    "HandshakeResult": GREETING,
    "Sample": SAMPLE,
    "Observe": OBSERVE,
    "Tag": TAG,
    "RunResult": flat.message("RunResult"),
}


def prior_run(peer, seed=0):
    return execution.run(peer, PriorController(np.random.default_rng(seed)))


@contextlib.contextmanager
def served(program, endpoint, *options):
    """A C++ simulator that the package did not start; yields its endpoint."""
    with subprocess.Popen([program, endpoint, *options], stderr=subprocess.PIPE, text=True) as server:
        try:
            yield server.stderr.readline().split()[-1]
            assert server.poll() is None, "the simulator has ended"
        finally:
            server.terminate()


# ---------------------------------------------------------------------- unreachable


UNREACHABLE = r"cannot be reached: no connection within 0\.3 s\n"


def test_a_port_without_a_listener():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, so that it is reserved, but not listening: connections are refused
        endpoint = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(SimulatorError, match=UNREACHABLE) as caught:
            connect(endpoint, start_timeout_s=0.3)
    assert endpoint in str(caught.value)
    assert "start it first, or correct the endpoint" in str(caught.value)


@pytest.mark.parametrize("full", [False, True], ids=["accepts nothing", "drops every packet"])
def test_a_listener_that_sends_nothing(full):
    """The kernel accepts the connection, or, if its queue is full, drops all packets like a firewall."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3 if full else 0):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(address)
        silent = r"did not answer within 0\.3 s before the handshake(.|\n)*increase start_timeout_s"
        with pytest.raises(SimulatorError, match=UNREACHABLE if full else silent):
            connect(f"tcp://127.0.0.1:{address[1]}", start_timeout_s=0.3)


# ---------------------------------------------------------------------- truncated


@pytest.mark.parametrize("ending", ["closes", "stays silent"])
@pytest.mark.parametrize("kind", REPLIES)
def test_a_truncated_reply_is_not_accepted(kind, ending):
    """The frame announces its full length, and ends within its body."""
    listener = Listener()
    done = threading.Event()

    def serve():
        replier = listener.accept()
        for reply_kind in ("HandshakeResult", kind):
            replier.receive()
            if reply_kind == kind:
                break
            replier.send(REPLIES[reply_kind])
        replier.send(REPLIES[kind], only=len(REPLIES[kind]) // 2)
        if ending == "stays silent":
            done.wait(20)
        replier.close()
        listener.close()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    closed, silent = r"lost the connection to tcp", r"did not answer within 0\.5 s"
    with pytest.raises(SimulatorError, match=closed if ending == "closes" else silent):
        prior_run(connect(listener.endpoint, timeout_s=0.5, start_timeout_s=0.5))
    done.set()
    serving.join(20)
    assert not serving.is_alive()


def test_complete_replies_of_the_same_peer_are_accepted():
    """The failures above are due to the truncation only."""
    listener = Listener()

    def serve():
        replier = listener.accept()
        for reply in (GREETING, SAMPLE, OBSERVE, TAG, REPLIES["RunResult"]):
            replier.receive()
            replier.send(reply)
        replier.close()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    with connect(listener.endpoint) as peer:
        trace = prior_run(peer)
    serving.join(20)
    listener.close()
    assert (len(trace), len(trace.observes), list(trace.tags)) == (1, 1, ["t"])


# ---------------------------------------------------------------------- a full disk


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 kB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small file system: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place):
    with contextlib.suppress(OSError), (place / "filling").open("wb") as file:
        while file.write(bytes(1024)):
            file.flush()


WRITER = """
import signal, sys
sys.argv[1:] = [sys.argv[1], "--model", "gaussian"]
sys.path.insert(0, {folder!r})
import old_peer
def write_a_file_per_run(peer, model=old_peer.gaussian):
    with open({scratch!r} + "/events", "ab") as events:
        events.write(bytes(20_000))
    model(peer)
old_peer.MODELS["gaussian"] = write_a_file_per_run
old_peer.main()
"""


def test_an_error_on_a_full_disk_shows_the_output_of_the_simulator(tiny_disk, tmp_path):
    code = WRITER.format(folder=str(OLD_PEER.parent), scratch=str(tiny_disk))
    with Simulator([sys.executable, "-c", code, "{endpoint}"], scratch=tmp_path) as peer:
        good = [prior_run(peer) for _ in range(3)]
        with pytest.raises(SimulatorError, match=r"exited with code 1 in run 4(.|\n)*No space left on device"):
            prior_run(peer)
        peer.restart()
        with pytest.raises(SimulatorError, match="No space left"):
            prior_run(peer)
        (tiny_disk / "events").unlink()  # free the disk
        peer.restart()
        assert prior_run(peer).value == good[0].value


def test_a_full_disk_below_socket_and_logs_affects_neither_runs_nor_errors(cpp_examples, tiny_disk):
    words = [str(cpp_examples / "misbehave"), "--mode", "throw", "--at-run", "1", "--at-draw", "4"]
    with Simulator(words, scratch=tiny_disk) as peer:
        good = prior_run(peer)
        fill(tiny_disk)
        with pytest.raises(SimulatorError, match="exited with code 1 in run 2 after 4 draws"):
            prior_run(peer)  # its last output cannot be written
        with contextlib.suppress(SimulatorError):  # a folder needs no block of a tmpfs, but may need one elsewhere
            peer.restart()
            assert prior_run(peer).value == good.value
        (tiny_disk / "filling").unlink()
        peer.restart()
        assert prior_run(peer).value == good.value
    assert not list(tiny_disk.iterdir())


# ---------------------------------------------------------------------- concurrent clients


class Answers:
    """Answers the draws of a run in order, and calls `meanwhile` before the draw `position`."""

    def __init__(self, values, position=-1, meanwhile=None):
        self.values, self.position, self.meanwhile = values, position, meanwhile

    def sample(self, site):
        if site.position == self.position:
            self.meanwhile()
        # Only a confused run has more draws than the model.
        return self.values[site.position] if site.position < len(self.values) else 9.0

    def observe(self, name, distribution, given):
        return None


ONES, TWOS = [0.25] * 100, [0.5] * 100


def test_a_second_client_takes_over_and_the_first_gets_an_error(cpp_examples, tmp_path):
    with (
        served(cpp_examples / "hundred", f"ipc://{tmp_path / 'socket'}") as endpoint,
        connect(endpoint, timeout_s=10) as first,
        contextlib.ExitStack() as stack,
    ):

        def take_over():
            second = stack.enter_context(connect(endpoint, timeout_s=10))
            assert execution.run(second, Answers(TWOS)).value == TWOS

        with pytest.raises(ProtocolError, match="sent Reset in run 1 after 41 draws"):
            execution.run(first, Answers(ONES, 40, take_over))
        assert execution.run(first, Answers(ONES)).value == ONES


def test_runs_of_two_clients_do_not_mix(cpp_examples, tmp_path):
    """An answer of one client must not be used in the run of the other."""
    with (
        served(cpp_examples / "hundred", f"ipc://{tmp_path / 'socket'}") as endpoint,
        connect(endpoint, timeout_s=10) as first,
        connect(endpoint, timeout_s=10) as second,
    ):
        outcomes, ended = [], []
        in_second_run, first_is_over = threading.Event(), threading.Event()

        def run_second():
            def wait():
                in_second_run.set()
                first_is_over.wait(5)

            try:
                second.restart()  # its handshake takes over
                outcomes.append(execution.run(second, Answers(TWOS, 10, wait)))
            except (ProtocolError, SimulatorError) as error:
                ended.append(error)

        thread = threading.Thread(target=run_second)

        def take_over():
            thread.start()
            assert in_second_run.wait(10)

        try:
            outcomes.append(execution.run(first, Answers(ONES, 40, take_over)))
        except (ProtocolError, SimulatorError) as error:
            ended.append(error)
        first_is_over.set()
        thread.join(20)
        assert not thread.is_alive()
        # One of them has a complete run, the other an error.
        assert len(outcomes) == len(ended) == 1
        assert outcomes[0].value in (ONES, TWOS)
        assert outcomes[0].result == pytest.approx(sum(outcomes[0].value))
        assert "Reset" in str(ended[0])
        assert execution.run(first, Answers(ONES)).result == pytest.approx(25.0)


KILLED = """
import os, signal, sys
from etalumis import execution
from etalumis.ppx import connect
class Suicidal:
    def sample(self, site):
        if site.position == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.25
    def observe(self, name, distribution, given):
        return None
execution.run(connect(sys.argv[1]), Suicidal())
"""


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_client_killed_in_a_run_leaves_a_simulator_that_serves_the_next(cpp_examples, tmp_path, transport):
    endpoint = f"ipc://{tmp_path / 'socket'}" if transport == "ipc" else "tcp://127.0.0.1:*"
    with served(cpp_examples / "hundred", endpoint) as place:
        for _ in range(2):
            code = subprocess.run([sys.executable, "-c", KILLED, place], env={**os.environ}, check=False).returncode
            assert code == -signal.SIGKILL
            with connect(place, start_timeout_s=10) as peer:
                assert execution.run(peer, Answers(TWOS)).value == TWOS
