# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Peers of the public generations of PPX: exact posteriors with all engines, and failures of a connection."""

import contextlib
import logging
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_chain, assert_weighted
from exact.test_ic_by_hand import SkewedSession

from etalumis import execution
from etalumis.errors import InferenceError, ProtocolError, RefusedError, SimulatorError
from etalumis.execution import PriorController
from etalumis.inference import importance, rmh
from etalumis.inference.compilation import sample_with_proposals
from etalumis.models import examples
from etalumis.ppx import Simulator, connect
from etalumis.seeds import generator
from etalumis.trace import REJECTED, REPLACED

PEER = Path(__file__).with_name("old_peer.py")
NAMES = {
    "gaussian": "gaussian_unknown_mean",
    "marsaglia": "marsaglia",
    "branching": "branching",
    "vector": "linear_gaussian",
}


def peer(model, *options, **settings):
    return Simulator([sys.executable, str(PEER), "{endpoint}", "--model", model, *options], **settings)


def prior_run(simulator, seed=0):
    return execution.run(simulator, PriorController(generator(seed, "old peers", 0)))


def flattened(posterior):
    """Make the tags of shape (1,) that these peers may send plain numbers."""
    posterior.values.update({name: values.reshape(len(values)) for name, values in posterior.values.items()})
    return posterior


@pytest.fixture(
    params=[("gaussian", "1.0", "--scalars"), ("branching", "1.0"), ("marsaglia", "0.1"), ("vector", "1.0")],
    scope="module",
)
def served(request):
    """A model of an old peer, its exact answers and the peer."""
    model, generation, *options = request.param
    with peer(model, "--generation", generation, "--not-exported", *options) as simulator:
        yield model, ANSWERS[NAMES[model]], simulator


def test_importance_sampling(served, statistics):
    _, exact, simulator = served
    runs = statistics.size(8_000, 20_000)
    assert_weighted(flattened(importance(simulator, exact.observations, runs=runs, seed=41)), exact)


def test_rmh(served, statistics):
    model, exact, simulator = served
    runs = 24_000 if model == "vector" else statistics.size(4_000, 10_000)
    posterior = flattened(rmh(simulator, exact.observations, runs=runs, burn_in=200, seed=32))
    if model == "marsaglia":
        # The chain mixes too slowly for a short test, but the same draws give the same chain as the Python model,
        # whose posterior is tested in tests/exact.
        here = rmh(examples.model(model), exact.observations, runs=runs, burn_in=200, seed=32)
        assert np.array_equal(posterior.values["mu"], here.values["mu"])
        assert len(np.unique(here.values["mu"])) > 400
    else:
        assert_chain(posterior, exact)


@pytest.mark.parametrize("generation", ["1.0", "0.1"])
def test_replace_without_a_scope_marks_latents_that_all_count(generation, statistics):
    """PPX 0.1 marks the draws of a loop, but not the beginning of a repetition, so that all of them are latents."""
    with peer("marsaglia", "--generation", generation) as simulator:
        traces = [prior_run(simulator, seed) for seed in range(200)]
        for trace in traces:
            assert {bool(flags & REPLACED) for flags in trace.flags} == {generation == "0.1"}
            assert not any(flags & REJECTED for flags in trace.flags)
            assert trace.accepted == list(range(len(trace)))
            assert len(set(trace.address)) == len(trace)
            assert trace.result is None
        assert len({len(trace) for trace in traces}) >= 3  # accepted at the first, second or third repetition
        runs = statistics.size(9_000, 15_000)
        posterior = sample_with_proposals(
            simulator, ANSWERS["marsaglia"].observations, SkewedSession(), runs=runs, seed=33
        )
    assert_weighted(flattened(posterior), ANSWERS["marsaglia"])


def test_a_vector_is_an_entry_for_each_element():
    with peer("vector") as simulator:
        trace = prior_run(simulator)
    place = "[_start+0x25; forward()+0x{}; draw()+0x2a]"
    names = [f"{place.format('10')}[{i}]__Normal__1" for i in range(3)]
    names += [f"{place.format('20')}[{i},{j}]__Categorical(len_probs:2)__1" for i in range(2) for j in range(2)]
    assert [trace.addresses.name(address) for address in trace.address] == names
    assert trace.name == ["theta[0]", "theta[1]", "theta[2]", "", "", "", ""]


def test_names_that_are_not_exported_change_with_the_process():
    """Absolute addresses differ between processes, which is why our front end does not use them."""
    with peer("gaussian", "--not-exported") as simulator:
        first = prior_run(simulator)
        assert prior_run(simulator).type == first.type
        simulator.restart()
        assert prior_run(simulator).type != first.type


SENT = ["HandshakeResult", "Sample", "Tag", "Observe", "RunResult"]
FAULTS = {
    "exit": (SimulatorError, r"exited with code 1(.|\n)*the licence server has gone"),
    "kill": (SimulatorError, "was killed by SIGKILL"),
    "hang": (SimulatorError, r"did not answer within 0\.5 s"),
    "rubbish": (ProtocolError, r"malformed PPX message of 200 bytes \(it starts with 5a 5a"),
    "half": (ProtocolError, "malformed PPX message"),
    "empty": (ProtocolError, "malformed PPX message of 0 bytes"),
    "wrong": (ProtocolError, "sent TagResult"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", SENT)
def test_a_fault_at_every_kind_of_message(fault, at, tmp_path):
    kind, what = FAULTS[fault]
    options = ["--fault", fault, "--at", at, "--at-run", "1"]
    settings = {"start_timeout_s": 0.5 if fault == "hang" and at == "HandshakeResult" else 30.0}
    if at == "HandshakeResult":
        with pytest.raises(kind, match=what) as caught:
            peer("gaussian", *options, scratch=tmp_path, **settings)
        assert "handshake" in str(caught.value) or "expected HandshakeResult" in str(caught.value)
    else:
        with peer("gaussian", *options, scratch=tmp_path, **settings) as simulator:
            good = prior_run(simulator)
            simulator._timeout_s = 0.5 if fault == "hang" else 30.0
            with pytest.raises(kind, match=what) as caught:
                prior_run(simulator)
            simulator._timeout_s = 30.0
            assert "in run 2 after" in str(caught.value)
            assert "old_peer.py" in str(caught.value) or "gaussian" in str(caught.value)
            simulator.restart()
            assert prior_run(simulator).value == good.value
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- started by another process


@contextlib.contextmanager
def running(folder, model, *options):
    """A peer that is not started by the package; yields its process and its endpoint."""
    endpoint = f"ipc://{folder / 'socket'}"
    with subprocess.Popen([sys.executable, str(PEER), endpoint, "--model", model, *options]) as process:
        try:
            yield process, endpoint
        finally:
            process.kill()


class Failing(PriorController):
    """Fails at the first statement of a kind."""

    def __init__(self, kind):
        super().__init__(generator(0, "old peers", 1))
        self.kind = kind

    def sample(self, site):
        if self.kind == "sample":
            raise InferenceError("at a sample statement")
        return super().sample(site)

    def observe(self, name, distribution, given):
        if self.kind == "observe":
            raise InferenceError("at an observe statement")
        return super().observe(name, distribution, given)


@pytest.mark.parametrize("kind", ["sample", "observe"])
def test_an_error_of_the_controller_does_not_affect_the_peer(tmp_path, kind):
    with running(tmp_path, "marsaglia") as (process, endpoint), connect(endpoint) as simulator:
        good = prior_run(simulator)
        for _ in range(2):
            with pytest.raises(InferenceError, match=kind):
                execution.run(simulator, Failing(kind))
        assert prior_run(simulator).value == good.value
        assert process.poll() is None


@pytest.mark.parametrize("at", ["Sample", "Observe", "Tag", "RunResult"])
def test_an_interrupt_while_the_peer_works_does_not_affect_later_runs(tmp_path, at):
    options = ["--any-shape", "--fault", "interrupt", "--at", at, "--at-run", "1"]
    with running(tmp_path, "gaussian", *options) as (process, endpoint):
        with connect(endpoint) as simulator:
            good = prior_run(simulator)
            with pytest.raises(KeyboardInterrupt):
                prior_run(simulator)
            assert prior_run(simulator).value == good.value
        with connect(endpoint) as simulator:
            assert prior_run(simulator).value == good.value
        assert process.poll() is None


KILLED = """
import os, signal, sys
import numpy as np
from etalumis import execution
from etalumis.execution import PriorController
from etalumis.ppx import connect
def die(*unused):
    os.kill(os.getpid(), signal.SIGKILL)
simulator, controller = connect(sys.argv[1]), PriorController(np.random.default_rng(1))
setattr(controller, sys.argv[2], die)
execution.run(simulator, controller)
"""


@pytest.mark.parametrize("kind", ["sample", "observe"])
def test_a_run_that_a_killed_client_left_is_completed_first(tmp_path, kind):
    with running(tmp_path, "gaussian", "--any-shape") as (process, endpoint):
        for _ in range(2):
            client = subprocess.run([sys.executable, "-c", KILLED, endpoint, kind], check=False)
            assert client.returncode == -signal.SIGKILL
            with connect(endpoint, start_timeout_s=10) as simulator:
                assert simulator.name == "gaussian"
                assert len(prior_run(simulator)) == 1
        assert process.poll() is None


@pytest.mark.parametrize("fault", ["kill", "hang"])
def test_a_peer_that_was_not_started_here_is_not_restarted(tmp_path, fault, caplog):
    options = ["--fault", fault, "--at", "Tag", "--at-run", "3"]
    with running(tmp_path, "gaussian", *options) as (_, endpoint), connect(endpoint, timeout_s=0.5) as simulator:
        with caplog.at_level(logging.WARNING), pytest.raises(SimulatorError) as caught:
            importance(simulator, ANSWERS["gaussian_unknown_mean"].observations, runs=100, seed=1)
        first, *_, advice = str(caught.value).splitlines()
        cause = f"lost the connection to {endpoint}" if fault == "kill" else "did not answer within 0.5 s"
        assert first.startswith(f"the simulator gaussian {cause} in run 4 after 1 draw")
        helps = "was not started here, so it is not restarted" if fault == "kill" else "increase timeout_s (simulator"
        assert helps in advice
        assert [record for record in caplog.records if record.levelno == logging.WARNING] == []


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("mismatch", "Normal: parameters of shapes [(2,), (3,)] do not broadcast to one shape"),
        ("negative", "Normal(0.0, -1.0): expected a finite mean and stddev > 0"),
    ],
)
def test_a_statement_that_is_not_supported_is_named_and_not_repeated(model, error, caplog):
    with peer(model, "--any-shape") as simulator, caplog.at_level(logging.WARNING):
        with pytest.raises(RefusedError) as caught:
            importance(simulator, {}, runs=10, seed=1)
        message = str(caught.value)
        assert "in run 1 after 1 draw: the sample statement at [_start+0x25; forward()+0x20; draw()+0x2a]" in message
        assert error in message
        assert "forward()+0x10" not in message
        assert "old_peer.py" in message
        assert caplog.text == ""
        pid = simulator.pid
        with pytest.raises(RefusedError):
            prior_run(simulator)
        assert simulator.pid == pid
