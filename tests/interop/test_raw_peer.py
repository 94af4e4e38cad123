# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The client with a simulator that shares no code with it (raw_peer.py), correct and faulty."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from etalumis import execution
from etalumis.address import AddressTable
from etalumis.errors import ProtocolError, RefusedError, SimulatorError
from etalumis.ppx import Simulator, connect, process
from etalumis.ppx import simulator as simulator_module

PEER = Path(__file__).with_name("raw_peer.py")
KINDS = [
    "Normal", "Uniform", "Categorical(len_probs:3)", "Poisson", "Bernoulli", "Beta", "Exponential", "Gamma",
    "LogNormal", "Binomial", "Weibull",
]  # fmt: skip


class Prior:
    """Draws from the prior; raises `error` at an entry, if given."""

    def __init__(self, error=None, position=-1):
        self.rng = np.random.default_rng(1)
        self.error, self.position = error, position

    def sample(self, site):
        if site.position == self.position:
            raise self.error
        return site.distribution.sample(self.rng)

    def observe(self, name, distribution, given):
        return given


def command(*options):
    return [sys.executable, str(PEER), "{endpoint}", *options]


def simulator(*options, **settings):
    return Simulator(command(*options), **settings)


def run(peer, controller=None):
    return execution.run(peer, controller or Prior(), AddressTable())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_run(trace):
    assert [trace.addresses.name(a) for a in trace.address] == [
        f"[forward()+0x{0x10 * (i + 1):x}]__{kind}__1" for i, kind in enumerate(KINDS)
    ]
    assert trace.name[:3] == ["mu", "", "channel"]
    assert trace.flags == [1, 0] + [1] * 9
    assert all(np.isfinite(trace.log_prob))
    mu = trace.value[0]
    assert [(o.name, o.distribution.shape) for o in trace.observes] == [
        ("obs0", (1,)),
        ("given", (1,)),
        ("grid", (4, 5, 6)),
    ]
    assert [o.distribution.arrays[0].flat[-1] for o in trace.observes] == [mu] * 3
    assert [o.value if o.value is None else o.value.tolist() for o in trace.observes] == [None, [1.5], None]
    assert trace.tags["square"].tolist() == [mu * mu]


@pytest.mark.parametrize("options", [(), ("--identifier",)])
def test_every_statement_of_a_ppx_1_0_peer(options):
    with simulator(*options) as peer:
        assert (peer.name, peer.handshake.system_name) == ("every kind", "raw peer")
        first, second = run(peer), run(peer)
        check_run(first)
        check_run(second)
        assert first.result == first.value[0]
        assert second.result is None


def test_tcp_and_a_busy_endpoint():
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with simulator(endpoint=endpoint) as peer:
        check_run(run(peer))
        with pytest.raises(SimulatorError, match=rf"another process listens on {endpoint}"):
            simulator(endpoint=endpoint)
        check_run(run(peer))


@pytest.mark.parametrize("name", ["folder/socket", "@etalumis-test-{pid}"])
def test_busy_ipc_endpoints_are_refused_and_stale_ones_are_not(tmp_path, name):
    (tmp_path / "folder").mkdir()
    place = name.format(pid=os.getpid()) if name.startswith("@") else str(tmp_path / name)
    endpoint = f"ipc://{place}"
    with simulator(endpoint=endpoint), pytest.raises(SimulatorError, match="another process listens"):
        simulator(endpoint=endpoint)
    if not name.startswith("@"):
        with socket.socket(socket.AF_UNIX) as left_over:
            Path(place).unlink(missing_ok=True)
            left_over.bind(place)
    with simulator(endpoint=endpoint) as peer:
        check_run(run(peer))


def test_running_simulators_can_be_connected_to(tmp_path):
    endpoint = f"ipc://{tmp_path / 'socket'}"
    with subprocess.Popen([sys.executable, str(PEER), endpoint]) as server:
        try:
            for _ in range(2):  # one inference side after the other
                with connect(endpoint) as peer:
                    assert peer.pid is None
                    check_run(run(peer))
        finally:
            server.kill()


def test_a_connected_simulator_that_dies_is_noticed_and_can_come_back():
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    arguments = [sys.executable, str(PEER), endpoint]
    with subprocess.Popen([*arguments, "--fault", "hang"]) as server, connect(endpoint) as peer:
        threading.Timer(0.3, server.kill).start()
        began = time.monotonic()
        with pytest.raises(SimulatorError, match=r"lost the connection to tcp.* in run 1 after 2 draws"):
            run(peer)
        assert time.monotonic() - began < 5
        with pytest.raises(SimulatorError, match=r"not running.*restart"):
            run(peer)
        with subprocess.Popen(arguments) as second:
            peer.restart()
            check_run(run(peer))
            second.kill()


def test_an_endpoint_without_a_simulator(tmp_path):
    with pytest.raises(SimulatorError, match=r"cannot be reached: no connection within 0\.3 s"):
        connect(f"ipc://{tmp_path / 'nobody'}", start_timeout_s=0.3)
    with pytest.raises(SimulatorError, match="not a ZeroMQ endpoint"):
        connect("localhost:5555")
    with pytest.raises(SimulatorError, match="a command that starts it, or the endpoint"):
        Simulator(None)


def test_early_exit_shows_what_the_simulator_wrote(tmp_path):
    with pytest.raises(SimulatorError, match=r"exited with code 1 before the handshake(.|\n)*no licence found"):
        simulator("--fault", "early", scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_simulator_that_never_answers_is_ended(tmp_path):
    with pytest.raises(SimulatorError, match=r"did not answer within 0\.5 s before the handshake"):
        simulator("--fault", "mute", start_timeout_s=0.5, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_slow_start_is_awaited():
    with simulator("--answer-later", "0.7", timeout_s=0.5) as peer:
        check_run(run(peer))


@pytest.mark.parametrize(
    ("fault", "how"), [("exit", "exited with code 3"), ("abort", "was killed by SIGABRT"), ("garbage", None)]
)
def test_faults_in_a_run_are_reported_at_once_and_a_restart_helps(fault, how, tmp_path):
    with simulator("--fault", fault, scratch=tmp_path) as peer:
        pid = peer.pid
        began = time.monotonic()
        if how is None:
            with pytest.raises(ProtocolError, match="malformed PPX message of 243 bytes"):
                run(peer)
        else:
            with pytest.raises(SimulatorError) as caught:
                run(peer)
            text = str(caught.value)
            assert how in text
            assert "in run 1 after 2 draws, last address [forward()+0x20]" in text
            assert "raw_peer.py" in text
            if fault == "exit":
                assert "complaint 99" in text
                assert "complaint 79\n" not in text
            with pytest.raises(SimulatorError, match=r"not running.*restart"):
                run(peer)
        assert time.monotonic() - began < 5
        assert not Path(f"/proc/{pid}").exists()
        peer.restart()
        with pytest.raises((SimulatorError, ProtocolError)):
            run(peer)  # the fault is in the first run of each process
    assert not list(tmp_path.iterdir())


def test_a_simulator_killed_by_another_process_is_detected_at_once():
    with simulator("--fault", "hang") as peer:
        killed = []

        def kill():
            killed.append(time.monotonic())
            os.kill(peer.pid, signal.SIGKILL)

        threading.Timer(0.4, kill).start()
        with pytest.raises(SimulatorError, match="was killed by SIGKILL in run 1"):
            run(peer)
        assert time.monotonic() - killed[0] < 2


def test_a_hang_ends_after_the_timeout_even_if_sigterm_is_ignored(monkeypatch):
    monkeypatch.setattr(process, "_TERMINATION_TIMEOUT_S", 0.2)
    with simulator("--fault", "deaf", timeout_s=0.4) as peer:
        pid = peer.pid
        with pytest.raises(SimulatorError, match=r"did not answer within 0\.4 s in run 1 after 2 draws"):
            run(peer)
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("reset", r"sent Reset in run 1 after 2 draws.*expected Sample, Observe, Tag or RunResult"),
        ("parameter", r"\[forward\(\)\+0x99\].*stddev > 0"),
    ],
)
def test_unsupported_messages_end_the_run_and_keep_the_simulator(fault, what):
    with simulator("--fault", fault) as peer:
        pid = peer.pid
        with pytest.raises(ProtocolError if fault == "reset" else RefusedError, match=what):
            run(peer)
        check_run(run(peer))
        assert peer.pid == pid


def test_a_vector_whose_parameters_do_not_broadcast_is_refused():
    with simulator("--fault", "vector") as peer:
        pattern = r"\[forward\(\)\+0x99\]: Normal: parameters of shapes \[\(2,\), \(3,\)\] do not broadcast"
        with pytest.raises(RefusedError, match=pattern):
            run(peer)


@pytest.mark.parametrize("error", [KeyError("controller's own"), KeyboardInterrupt()])
def test_errors_of_the_controller_leave_the_simulator_usable(error):
    with simulator() as peer:
        pid = peer.pid
        for position in (0, 5):
            with pytest.raises(type(error)):
                run(peer, Prior(error, position))
            check_run(run(peer))
        assert peer.pid == pid


def test_an_interrupt_while_waiting_is_followed_by_a_new_process(monkeypatch):
    monkeypatch.setattr(simulator_module, "_RESET_TIMEOUT_S", 0.2)  # it does not answer this either
    with simulator("--fault", "hang") as peer:
        pid = peer.pid
        timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run(peer)
        assert not Path(f"/proc/{pid}").exists()
        with contextlib.suppress(KeyboardInterrupt):
            timer.join()
        threading.Timer(0.4, lambda: os.kill(peer.pid, signal.SIGKILL)).start()
        with pytest.raises(SimulatorError, match="SIGKILL"):
            run(peer)  # of the new process


def test_two_simulators_in_one_process():
    with simulator() as one, simulator() as other:
        assert run(one).value == run(other).value
        run(one)
        check_run(run(other))


def test_a_flood_on_standard_error_blocks_nothing(tmp_path):
    with simulator("--fault", "flood", scratch=tmp_path) as peer:
        check_run(run(peer))
        (log,) = tmp_path.glob("etalumis-*/stderr")
        assert log.stat().st_size > 17_000_000
        check_run(run(peer))
        assert log.stat().st_size == 0


def test_a_closed_simulator_cannot_run_until_it_is_restarted():
    peer = simulator()
    pid = peer.pid
    peer.close()
    peer.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(SimulatorError, match="closed"):
        run(peer)
    peer.restart()
    check_run(run(peer))
    peer.close()
