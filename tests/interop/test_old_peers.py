# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Models of the public generations of PPX under our engines (exact posteriors), and what one connection can suffer."""

import sys
from pathlib import Path

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_chain, assert_weighted
from exact.test_ic_by_hand import SkewedSession

from etalumis import execution
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.inference import importance, rmh
from etalumis.inference.compilation import with_session
from etalumis.inference.controllers import PriorController
from etalumis.models import examples
from etalumis.ppx import Simulator
from etalumis.seeds import generator
from etalumis.trace import REJECTED, REPLACED

PEER = Path(__file__).with_name("old_peer.py")
NAMES = {"gaussian": "gaussian_unknown_mean", "marsaglia": "marsaglia", "branching": "branching"}


def peer(model, *options, **settings):
    return Simulator([sys.executable, str(PEER), "{endpoint}", "--model", model, *options], **settings)


def prior_run(simulator, seed=0):
    return execution.run(simulator, PriorController(generator(seed, "old peers", 0)))


def flattened(posterior):
    """Make the tags of shape (1,) that these peers send plain numbers."""
    posterior.values.update({name: values.reshape(len(values)) for name, values in posterior.values.items()})
    return posterior


@pytest.fixture(params=[("gaussian", "1.0"), ("branching", "1.0"), ("marsaglia", "0.1")], scope="module")
def served(request):
    """A model of an old peer, its exact answers and the peer."""
    model, generation = request.param
    with peer(model, "--generation", generation, "--not-exported") as simulator:
        yield model, ANSWERS[NAMES[model]], simulator


def test_importance_sampling(served):
    _, exact, simulator = served
    assert_weighted(flattened(importance(simulator, exact.observations, runs=8_000, seed=41)), exact)


def test_rmh(served):
    model, exact, simulator = served
    posterior = flattened(rmh(simulator, exact.observations, runs=4_000, burn_in=200, seed=32))
    if model == "marsaglia":
        # A chain through its loop mixes too slowly for a quick estimate, but the same draws make the same chain as
        # the Python model's, whose posterior tests/exact checks at length.
        here = rmh(examples.model(model), exact.observations, runs=4_000, burn_in=200, seed=32)
        assert np.array_equal(posterior.values["mu"], here.values["mu"])
        assert len(np.unique(here.values["mu"])) > 400
    else:
        assert_chain(posterior, exact)


@pytest.mark.parametrize("generation", ["1.0", "0.1"])
def test_replace_without_a_scope_marks_latents_that_all_count(generation):
    """PPX 0.1 says that a draw is in a loop, not where its repetitions begin: each of them stays a latent."""
    with peer("marsaglia", "--generation", generation) as simulator:
        traces = [prior_run(simulator, seed) for seed in range(200)]
        for trace in traces:
            assert {bool(flags & REPLACED) for flags in trace.flags} == {generation == "0.1"}
            assert not any(flags & REJECTED for flags in trace.flags)
            assert trace.accepted == list(range(len(trace)))
            assert len(set(trace.address)) == len(trace)
            assert trace.result is None
        assert len({len(trace) for trace in traces}) >= 3  # accepted at once, at the second, at the third repetition
        posterior = with_session(simulator, ANSWERS["marsaglia"].observations, SkewedSession(), runs=6_000, seed=33)
    assert_weighted(flattened(posterior), ANSWERS["marsaglia"])


def test_names_that_are_not_exported_change_with_the_process():
    """Why the front end of ours does without absolute addresses: these cannot be compared between processes."""
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
    settings = {"timeout_s": 0.5, "start_timeout_s": 0.5 if fault == "hang" and at == "HandshakeResult" else 30.0}
    if at == "HandshakeResult":
        with pytest.raises(kind, match=what) as caught:
            peer("gaussian", *options, scratch=tmp_path, **settings)
        assert "handshake" in str(caught.value) or "expected HandshakeResult" in str(caught.value)
    else:
        with peer("gaussian", *options, scratch=tmp_path, **settings) as simulator:
            good = prior_run(simulator)
            with pytest.raises(kind, match=what) as caught:
                prior_run(simulator)
            assert "in run 2 after" in str(caught.value)
            assert "old_peer.py" in str(caught.value) or "gaussian" in str(caught.value)
            simulator.restart()
            assert prior_run(simulator).value == good.value
    assert not list(tmp_path.iterdir())
