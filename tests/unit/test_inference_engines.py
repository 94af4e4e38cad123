# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Engines with bad input, failing simulators and interruptions."""

import errno
import logging
import math
import os
import random
import re

import h5py
import numpy as np
import pytest
from system_errors import files_end_at
from unit.engine_runs import PriorSession

from etalumis import seeds
from etalumis.address import AddressTable
from etalumis.counting import counted
from etalumis.distributions import ArrayDistribution, Bernoulli, Categorical, Normal, Uniform
from etalumis.errors import InferenceError, SimulatorError, StorageError
from etalumis.inference import Posterior, SmcSettings, importance, rmh
from etalumis.inference.chain import NETWORK_MOVES
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.compilation import network_input, sample_with_proposals
from etalumis.inference.network_rmh import NetworkRmhSettings, sample_with_network_moves
from etalumis.inference.observations import NAME_CHECK_RUNS, Observations
from etalumis.inference.proposal_controller import ProposalController
from etalumis.inference.runner import ModelRunner
from etalumis.inference.scope_choice import ScopeChoice
from etalumis.inference.smc import sample_population
from etalumis.layers import LayerTable, ObservationLayout
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample, tag
from etalumis.recorded_trace import RecordedTrace


def rmh_briefly(model, observations, **more):
    return rmh(model, observations, **{"runs": 50, "seed": 1, "init_runs": 5, **more})


def tempered_briefly(model, observations, **more):
    return rmh_briefly(model, observations, **{"betas": (1.0, 0.3, 0.0), **more})


def importance_briefly(model, observations, **more):
    return importance(model, observations, **{"runs": 50, "seed": 1, **more})


def ic_briefly(model, observations, **more):
    return sample_with_proposals(model, observations, PriorSession(), **{"runs": 50, "seed": 1, **more})


def smc_briefly(model, observations, session=None, **more):
    settings = SmcSettings(particles=20, starts=30, entry_moves=2, block_moves=2)
    return sample_population(model, observations, session, **{"seed": 1, "settings": settings, **more})


def smc_from_proposals(model, observations, **more):
    return smc_briefly(model, observations, PriorSession(), **more)


def guided_briefly(model, observations, candidates=8, **more):
    settings = NetworkRmhSettings(temperatures=3, steps=2, candidates=candidates, replays=2)
    given = {"runs": 40 * settings.runs_per_sweep, "seed": 5, "burn_in": 8, "init_runs": 20, "settings": settings}
    return sample_with_network_moves(model, observations, PriorSession(), **{**given, **more})


DRAW_BY_DRAW = [rmh_briefly, tempered_briefly, importance_briefly, ic_briefly]
ENGINES = [*DRAW_BY_DRAW, smc_briefly, smc_from_proposals, guided_briefly]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mistyped_observation_names_what_the_model_observes(engine):
    with pytest.raises(InferenceError, match=r"does not observe 'obs_0'; it observes 'obs0', 'obs1'"):
        engine(examples.model("gaussian_unknown_mean"), {"obs_0": 8.0})


@pytest.mark.parametrize("engine", ENGINES)
def test_an_observation_of_the_wrong_shape_names_both_shapes(engine):
    def image():
        observe(ArrayDistribution(1, (np.full((2, 3), sample(Normal(0, 1))), np.asarray(1.0))), name="image")

    with pytest.raises(InferenceError, match=r"\(3, 2\).*\(2, 3\)"):
        engine(FunctionModel(image), {"image": np.zeros((3, 2))})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_statement_without_a_value_is_refused_unless_left_out_explicitly(engine):
    model = examples.model("gaussian_unknown_mean")
    with pytest.raises(
        InferenceError, match=r"also observes 'obs1', .*values are given for 'obs0'.*--unconditioned obs1"
    ):
        engine(model, {"obs0": 8.0})
    with pytest.raises(InferenceError, match="does not observe 'obs2'"):
        engine(model, {"obs0": 8.0, "obs1": None, "obs2": 8.0})
    alone = engine(model, {"obs0": 8.0, "obs1": None})
    assert len(alone) > 0
    assert set(alone.log_likelihood) != set(engine(model, {"obs0": 8.0, "obs1": 8.0}).log_likelihood)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_statement_that_only_some_runs_reach_is_checked(engine):
    def model():
        if sample(Bernoulli(0.5)):
            observe(Normal(0.0, 1.0), name="extra")
        observe(Normal(0.0, 1.0), name="obs")

    with pytest.raises(InferenceError, match="also observes 'extra'"):
        engine(FunctionModel(model), {"obs": 0.0})
    for extra in (0.0, None):
        # with this seed, the first run of every engine does not reach "extra"
        assert len(engine(FunctionModel(model), {"obs": 0.0, "extra": extra})) > 0


def test_a_name_that_no_run_observes_is_reported_after_some_runs_and_refused_after_the_last_one(caplog):
    def model():
        observe(Normal(sample(Normal(0.0, 1.0)), 1.0), name="obs")

    for runs in (5, 200):
        with pytest.raises(InferenceError, match="does not observe 'never'; it observes 'obs'"):
            importance_briefly(model, {"obs": 0.0, "never": 1.0}, runs=runs)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "none of 100 runs observed 'never' (it is an error if no later run does); observed: 'obs'"
    ]
    for runs in (5, 200):
        caplog.clear()
        assert len(importance_briefly(model, {"obs": 0.0, "never": None}, runs=runs)) == runs
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            f"none of {min(runs, 100)} runs observed 'never' (it is to be left out); observed: 'obs'"
        ]


def test_a_statement_that_less_than_one_run_in_a_hundred_reaches_is_not_refused():
    reached = []

    def model():
        reached.append(sample(Uniform(0.0, 1.0)) < 0.004)
        if reached[-1]:
            observe(Normal(0.0, 1.0), name="rare")
        observe(Normal(0.0, 1.0), name="obs")

    assert len(importance(FunctionModel(model), {"obs": 0.0, "rare": 0.0}, runs=1000, seed=1)) > 0
    assert NAME_CHECK_RUNS < reached.index(True) < 1000


@pytest.mark.parametrize("engine", ENGINES)
def test_a_python_function_is_a_model_and_other_objects_are_refused(engine):
    def model():
        observe(Normal(sample(Normal(0.0, 1.0), name="x"), 1.0), name="obs")

    function = engine(model, {"obs": 0.0})
    np.testing.assert_array_equal(function.values["x"], engine(FunctionModel(model), {"obs": 0.0}).values["x"])
    with pytest.raises(InferenceError, match="expected a simulator, a FunctionModel or a Python function, found 3"):
        engine(3, {"obs": 0.0})


def test_a_statement_with_a_value_of_its_own_needs_none():
    def model():
        x = sample(Normal(0.0, 1.0), name="x")
        observe(Normal(x, 1.0), value=2.0, name="own")
        observe(Normal(x, 1.0), name="obs")

    assert len(importance_briefly(FunctionModel(model), {"obs": 0.0})) == 50


def test_an_unnamed_statement_is_reported_by_its_address():
    def model():
        observe(Normal(0.0, 1.0), name="obs")
        observe(Normal(0.0, 1.0))

    with pytest.raises(InferenceError, match=r"without a name at \[.*model\+2"):
        importance_briefly(FunctionModel(model), {"obs": 0.0})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, math.nan], "1 of 2 elements are not finite"),
        ("2.5", "expected a number or an array of numbers, found '2.5'"),
        (["a", "b"], "expected a number or an array of numbers"),
        ([[1.0], [2.0, 3.0]], "expected a number or an array of numbers"),
        ({"x": 1.0}, "expected a number or an array of numbers"),
        (1j, "expected a number or an array of numbers"),
        (10**400, "expected a number or an array of numbers"),
        ([0.0, -1e200], "expected magnitudes up to 1e.150, .* found 1e.200"),
    ],
)
def test_an_invalid_observation_is_refused(value, message):
    with pytest.raises(InferenceError, match=f"observation 'image': {message}"):
        Observations({"image": value})


def test_observations_without_names_are_refused():
    with pytest.raises(InferenceError, match="expected a mapping from the name of an observe statement"):
        importance_briefly(examples.model("branching"), 6.0)


def test_a_narrow_likelihood_overflows_without_a_warning():
    distribution = ArrayDistribution(Normal.code, (np.zeros(2), np.asarray(1e-100)))
    assert distribution.log_prob(np.array([1e150, 0.0])) == -math.inf


@pytest.mark.parametrize("engine", ENGINES)
def test_a_nan_likelihood_stops_and_names_the_statement(engine):
    def broken():
        mu = sample(Normal(0, 1))
        mean = np.asarray(math.nan if mu > 1 else mu)
        observe(ArrayDistribution(1, (mean, np.asarray(1.0))), name="obs")

    with pytest.raises(InferenceError, match=r"'obs' at .*broken.* is NaN in run \d+ of seed"):
        engine(FunctionModel(broken), {"obs": 0.0})


def wall():
    x = sample(Uniform(0.0, 1.0), name="x")
    observe(Uniform(x, x + 0.2), name="obs")


def test_runs_of_likelihood_zero_are_kept_and_counted():
    posterior = importance(FunctionModel(wall), {"obs": 0.5}, runs=1000, seed=1)
    zero = posterior.log_weight == -math.inf
    assert len(posterior) == 1000
    assert posterior.info["zero_weights"] == zero.sum()
    assert abs(zero.mean() - 0.8) < 4 * math.sqrt(0.16 / 1000)
    assert abs(math.exp(posterior.log_evidence) - 1.0) < 4 * math.sqrt(4.0 / 1000)


def test_a_chain_never_enters_likelihood_zero():
    posterior = rmh(FunctionModel(wall), {"obs": 0.5}, runs=3000, seed=2)
    assert posterior.values["x"].min() >= 0.3
    assert posterior.values["x"].max() <= 0.5
    assert posterior.info["acceptance_overall"] > 0.2


def test_a_chain_without_an_initial_state_is_an_error():
    with pytest.raises(InferenceError, match="likelihood zero in all of 7 prior runs"):
        rmh(FunctionModel(wall), {"obs": 5.0}, runs=10, seed=2, init_runs=7)


@pytest.mark.parametrize(
    "wrong", [{"burn_in": 50}, {"thin": 0}, {"init_runs": 0}, {"burn_in": 25, "betas": (1.0, 0.0)}]
)
def test_rmh_refuses_settings_that_keep_nothing(wrong):
    with pytest.raises(InferenceError, match="burn_in"):
        rmh_briefly(examples.model("branching"), {"obs": 6.0}, **wrong)


def test_hidden_randomness_in_a_prior_is_detected():
    hidden = np.random.default_rng(0)

    def draws_its_own_prior():
        x = sample(Normal(float(hidden.integers(2)), 1.0))
        sample(Normal(0.0, 1.0))
        observe(Normal(x, 1.0), name="obs")

    with pytest.raises(InferenceError, match="replay broke off at entry 0"):
        rmh_briefly(FunctionModel(draws_its_own_prior), {"obs": 0.0})


class Hidden:
    """Models that are not functions of their draws, for different reasons."""

    def __init__(self):
        self.rng, self.runs, self.last = random.Random(1), 0, 0.0

    def generator(self):
        x = sample(Normal(0.0, 1.0), name="x")
        observe(Normal(x + self.rng.gauss(0.0, 1.0), 1.0), name="obs")

    def counter(self):
        x = sample(Normal(0.0, 1.0), name="x")
        self.runs += 1
        observe(Normal(x + 1e-3 * self.runs, 1.0), name="obs")

    def last_run(self):
        x = sample(Normal(0.0, 1.0), name="x")
        observe(Normal(x + self.last, 1.0), name="obs")
        self.last = x

    def rarely(self):
        x = sample(Normal(0.0, 1.0), name="x")
        self.runs += x > 1.0  # in every sixth prior run
        tag("runs", self.runs if x > 1.0 else 0.0)
        observe(Normal(x, 1.0), name="obs")

    def changes_after_80_runs(self):
        x = sample(Normal(0.0, 1.0), name="x")
        self.runs += 1
        observe(Normal(x + (self.runs > 80), 1.0), name="obs")

    def tagged(self):
        x = sample(Normal(0.0, 1.0), name="x")
        tag("smeared", x + self.rng.random())
        observe(Normal(x, 1.0), name="obs")

    def returned(self):
        observe(Normal(sample(Normal(0.0, 1.0)), 1.0), name="obs")
        return self.rng.random()

    def longer(self):
        observe(Normal(sample(Normal(0.0, 1.0)), 1.0), name="obs")
        self.runs += 1
        for _ in range(self.runs // 6):
            sample(Normal(0.0, 1.0))

    def shorter(self):
        observe(Normal(sample(Normal(0.0, 1.0)), 1.0), name="obs")
        self.runs += 1
        for _ in range(self.runs < 6):
            sample(Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("generator", r"expected the log likelihood .* \(observe statement 'obs'\)"),
        ("counter", "expected the log likelihood"),
        ("last_run", "expected the log likelihood"),
        ("changes_after_80_runs", "expected the log likelihood"),
        ("tagged", "expected the tag 'smeared'"),
        ("rarely", "expected the tag 'runs'"),
        ("returned", "expected the result"),
        ("longer", "expected the 1 entries of the trace, found 2"),
        ("shorter", "it broke off at entry 1"),
    ],
)
@pytest.mark.parametrize("engine", [rmh_briefly, tempered_briefly])
def test_a_chain_refuses_a_model_that_is_not_a_function_of_its_draws(engine, kind, message):
    with pytest.raises(InferenceError, match=f"{message}.*a random number generator of the model's own"):
        engine(FunctionModel(getattr(Hidden(), kind)), {"obs": 3.0}, runs=3000)


class Flaky:
    """A restartable model that dies in some runs, like a simulator."""

    can_restart = True

    def __init__(self, model, dies_at):
        self.model, self.dies_at = model, set(dies_at)
        self.name = "flaky"
        self.runs = self.restarts = 0

    def run(self, execution):
        self.runs += 1
        result = self.model.run(execution)
        if self.runs in self.dies_at:
            raise SimulatorError("the simulator died")
        return result

    def restart(self):
        self.restarts += 1


@pytest.mark.parametrize(("engine", "name"), [(importance_briefly, "importance"), (ic_briefly, "ic")])
def test_a_failed_draw_is_reported_with_its_own_seed(engine, name, caplog):
    flaky = Flaky(examples.model("gaussian_unknown_mean"), {10})
    with caplog.at_level(logging.WARNING):
        engine(flaky, {"obs0": 8.0, "obs1": 9.0})
    stage = f"posteriors/{name}/0"
    assert f"run 0 of seed {seeds.derive(1, stage, 9)} (draw 9 of {stage}) failed (the simulator died)" in caplog.text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failed_run_is_repeated_with_the_same_draws(engine, caplog):
    exact = {"obs": 0.4}
    whole = engine(examples.model("dependent_loop"), exact)
    flaky = Flaky(examples.model("dependent_loop"), {1, 9, 10, 30})
    with caplog.at_level(logging.WARNING):
        mended = engine(flaky, exact)
    assert flaky.restarts == mended.info["failures"] == 4
    assert "of seed" in caplog.text
    np.testing.assert_array_equal(mended.values["theta"], whole.values["theta"])
    np.testing.assert_array_equal(mended.log_weight, whole.log_weight)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_simulator_that_keeps_failing_ends_the_engine(engine):
    flaky = Flaky(examples.model("branching"), range(3, 100))
    with pytest.raises(SimulatorError, match="died"):
        engine(flaky, {"obs": 6.0}, retries=2)
    assert flaky.restarts == 2


class Interrupted(Exception):
    pass


class Interrupting(Flaky):
    """Raises an exception that no engine handles, in place of a kill."""

    def run(self, execution):
        self.runs += 1
        if self.runs in self.dies_at:
            raise Interrupted
        return self.model.run(execution)


@pytest.mark.parametrize("engine", DRAW_BY_DRAW)
def test_an_interrupted_engine_resumes_with_the_same_draws(engine, tmp_path):
    def checkpoint():
        return Checkpoint(tmp_path / "p.h5.part", {"seed": 1}, interval_s=0.0)

    observations = {"obs": 0.4}
    whole = engine(examples.model("dependent_loop"), observations)
    for dies_at in (25, 12):
        with pytest.raises(Interrupted):
            engine(Interrupting(examples.model("dependent_loop"), {dies_at}), observations, checkpoint=checkpoint())
        assert 0 < len(Posterior.load(tmp_path / "p.h5.part")) < len(whole)
    resumed = engine(examples.model("dependent_loop"), observations, checkpoint=checkpoint())
    assert len(resumed) == len(whole)
    for name in ("theta", "x", "u"):
        np.testing.assert_array_equal(resumed.values[name], whole.values[name])
    np.testing.assert_array_equal(resumed.log_weight, whole.log_weight)
    for key in ("simulator_runs", "acceptance", "lost_share", "replay_runs", "zero_weights", "swap_acceptance"):
        assert resumed.info.get(key) == whole.info.get(key)


def test_interrupted_network_moves_resume_with_the_same_draws(tmp_path):
    def checkpoint():
        return Always(tmp_path / "p.h5.part", {"seed": 1})

    model, observations = examples.model("dependent_loop"), {"obs": 0.05}

    def sampled(model, **more):
        # so few that a comparison is not effective without higher temperatures
        return guided_briefly(model, observations, candidates=2, seed=6, **more)

    whole = sampled(model)
    assert len(whole.info["inverse_temperatures"]) == 3
    assert whole.info["acceptance"][NETWORK_MOVES]["accepted"] > 0
    runs = whole.info["simulator_runs"]
    for dies_at in (runs // 2, runs // 3):
        with pytest.raises(Interrupted):
            sampled(Interrupting(model, {dies_at}), checkpoint=checkpoint())
    resumed = sampled(model, checkpoint=checkpoint())
    for name in ("theta", "x", "u"):
        np.testing.assert_array_equal(resumed.values[name], whole.values[name])
    keys = ("inverse_temperatures", "acceptance", "replica_acceptance", "swap_acceptance", "round_trips", "sweeps")
    for key in keys:
        assert resumed.info[key] == whole.info[key]


class Always(Checkpoint):
    """Writes at every opportunity, however long the last write took."""

    due = True


def smc_with_strata(model, observations, **more):
    return smc_briefly(model, observations, strata="choice", **more)


def test_an_interrupted_job_with_strata_resumes_with_the_same_draws(tmp_path):
    def model():
        shift = sample(Categorical((0.6, 0.4)), name="choice")
        observe(Normal(sample(Normal(shift, 1.0), name="x"), 0.1), name="obs")

    def checkpoint():
        return Always(tmp_path / "p.h5.part", {"seed": 1})

    whole = smc_with_strata(FunctionModel(model), {"obs": 2.0})
    assert len(whole.info["strata"]) == 2
    runs, stages = whole.info["simulator_runs"], sum(len(part["stages"]) for part in whole.info["strata"])
    assert stages >= 6
    for dies_at in (runs // 2, runs // 4):
        with pytest.raises(Interrupted):
            smc_with_strata(Interrupting(FunctionModel(model), {dies_at}), {"obs": 2.0}, checkpoint=checkpoint())
    resumed = smc_with_strata(FunctionModel(model), {"obs": 2.0}, checkpoint=checkpoint())
    for name in ("choice", "x"):
        np.testing.assert_array_equal(resumed.values[name], whole.values[name])
    np.testing.assert_array_equal(resumed.log_weight, whole.log_weight)
    assert resumed.info["strata"] == whole.info["strata"]


@pytest.mark.parametrize("engine", [smc_briefly, smc_from_proposals])
def test_an_interrupted_population_resumes_with_the_same_draws(engine, tmp_path):
    def checkpoint():
        return Always(tmp_path / "p.h5.part", {"seed": 1})

    observations = {"obs": -0.1}
    whole = engine(examples.model("dependent_loop"), observations)
    runs, stages = whole.info["simulator_runs"], len(whole.info["strata"][0]["stages"])
    assert stages >= 4
    found = []
    for dies_at in (runs // 2, runs // 3):  # of the whole, then of what is left and the replays
        with pytest.raises(Interrupted):
            engine(Interrupting(examples.model("dependent_loop"), {dies_at}), observations, checkpoint=checkpoint())
        found.append(len(Posterior.load(tmp_path / "p.h5.part").info["state"]["populations"][0]["stages"]))
    assert 0 < found[0] <= found[1] < stages
    resumed = engine(examples.model("dependent_loop"), observations, checkpoint=checkpoint())
    for name in ("theta", "x", "u"):
        np.testing.assert_array_equal(resumed.values[name], whole.values[name])
    np.testing.assert_array_equal(resumed.log_weight, whole.log_weight)
    np.testing.assert_array_equal(resumed.lineage, whole.lineage)
    for key in ("simulator_runs", "acceptance", "strata"):
        assert resumed.info[key] == whole.info[key]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"particles": 1}, "expected particles >= 2; found 1"),
        ({"conditional_ess": 1.0}, "expected 0 < conditional_ess < 1, found 1.0"),
        ({"entry_moves": 0, "block_moves": 0}, "the traces would never move"),
    ],
)
def test_settings_of_a_population_are_checked(setting, message):
    with pytest.raises(InferenceError, match=message):
        smc_briefly(examples.model("dependent_loop"), {"obs": 0.4}, settings=SmcSettings(**setting))


def test_a_population_without_a_possible_start_says_so():
    def model():
        sample(Uniform(0.0, 1.0))
        observe(Uniform(0.0, 1.0), name="obs")

    with pytest.raises(InferenceError, match="weight zero in all of 30 first runs"):
        smc_briefly(FunctionModel(model), {"obs": 2.0})


@pytest.mark.parametrize("engine", DRAW_BY_DRAW)
def test_a_full_disk_is_reported_with_the_draws_that_are_lost(engine, tmp_path):
    model, path = examples.model("dependent_loop"), tmp_path / "p.h5.part"

    def sampled(interval_s):
        return engine(model, {"obs": 0.4}, runs=300, checkpoint=Checkpoint(path, {"seed": 1}, interval_s))

    with files_end_at(0), pytest.raises(StorageError) as failed:
        sampled(0.0)
    assert re.search(
        r"part: cannot be written \(File too large\).*\n  All runs so far are lost \(\d+ draws?\)\. "
        r"The same command starts from the beginning\.$",
        str(failed.value),
    )
    with pytest.raises(Interrupted):
        engine(
            Interrupting(model, {50}), {"obs": 0.4}, runs=300, checkpoint=Checkpoint(path, {"seed": 1}, interval_s=0.0)
        )
    kept = len(Posterior.load(path))
    with files_end_at(path.stat().st_size - 1), pytest.raises(StorageError) as failed:
        sampled(0.0)
    assert str(failed.value).endswith(
        "\n  The runs since the last checkpoint are lost (1 draw). The same command continues from the checkpoint "
        f"({counted(kept, 'draw')} in {path})."
    )
    assert len(Posterior.load(path)) == kept
    np.testing.assert_array_equal(sampled(1e9).log_weight, engine(model, {"obs": 0.4}, runs=300).log_weight)


def test_a_ladder_interrupted_during_its_burn_in_resumes_with_the_same_temperatures(tmp_path):
    def sampled(model, interval_s):
        checkpoint = Checkpoint(tmp_path / "p.h5.part", {"seed": 1}, interval_s)
        return tempered_briefly(model, {"obs": 0.4}, runs=300, burn_in=40, checkpoint=checkpoint)

    model = examples.model("dependent_loop")
    whole = sampled(model, interval_s=1e9)
    assert whole.info["inverse_temperatures"][1] != 0.3  # adapted after 20 and after 40 sweeps
    for dies_at in (80, 30, 60):  # after 25 sweeps, about 34, about 53
        with pytest.raises(Interrupted):
            sampled(Interrupting(model, {dies_at}), interval_s=0.0)
    resumed = sampled(model, interval_s=0.0)
    assert len(resumed) == 60
    np.testing.assert_array_equal(resumed.values["theta"], whole.values["theta"])
    for key in ("inverse_temperatures", "swap_acceptance", "replica_acceptance", "round_trips", "sweeps", "failures"):
        assert resumed.info[key] == whole.info[key]
    assert whole.info["round_trips"] > 0


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path, caplog):
    path = tmp_path / "p.h5.part"
    made = importance_briefly(examples.model("branching"), {"obs": 6.0})
    Checkpoint(path, {"seed": 1}).save(made, {"next": 50})
    assert Checkpoint(path, {"seed": 1}).load() is not None
    with caplog.at_level(logging.WARNING):
        assert Checkpoint(path, {"seed": 2}).load() is None
    assert "other settings" in caplog.text
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, {"seed": 1}).load() is None
    assert "starting" in caplog.text


def test_a_checkpoint_that_the_system_cannot_read_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "p.h5.part"
    Checkpoint(path, {"seed": 1}).save(importance_briefly(examples.model("branching"), {"obs": 6.0}), {"next": 50})
    before = path.read_bytes()

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", refuse)
        with pytest.raises(StorageError, match="not damage to the file"):
            importance_briefly(examples.model("branching"), {"obs": 6.0}, checkpoint=Checkpoint(path, {"seed": 1}))
    assert path.read_bytes() == before


def test_proposals_of_a_diverged_network_stop_the_run():
    class Diverged(PriorSession):
        def propose(self, address, distribution, rng):
            return distribution.sample(rng), math.nan

    with pytest.raises(InferenceError, match="diverged"):
        sample_with_proposals(examples.model("branching"), {"obs": 6.0}, Diverged(), runs=3, seed=1)


def layers(*layouts):
    return LayerTable([], [ObservationLayout(name, shape, None) for name, shape in layouts])


def test_the_network_sees_observations_as_in_its_training():
    observations = Observations({"b": [[1.0, 2.0]], "a": 3.0})
    assert network_input(layers(("b", (1, 2))), observations).shape == (1, 2)
    np.testing.assert_array_equal(network_input(layers(("a", (1,)), ("b", (1, 2))), observations), [3.0, 1.0, 2.0])
    with pytest.raises(InferenceError, match=r"'c'.*\['b', 'a'\]"):
        network_input(layers(("c", (1,))), observations)
    with pytest.raises(InferenceError, match=r"\(1, 2\).*\(2, 1\)"):
        network_input(layers(("b", (2, 1))), observations)


def test_named_entries_tags_and_trace_types_are_kept():
    def model():
        kind = sample(Categorical((0.5, 0.5)), name="kind")
        with rejection_scope() as scope:
            while sample(Uniform(0.0, 1.0), name="u") > 0.3:
                scope.repeat()
        if kind:
            sample(Normal(0.0, 1.0), name="extra")
        tag("pair", [kind, 2.0])
        return 2 * kind

    posterior = importance(FunctionModel(model), {}, runs=200, seed=5)
    kind = posterior.values["kind"]
    np.testing.assert_array_equal(posterior.values["pair"][:, 0], kind)
    np.testing.assert_array_equal(posterior.values["result"], 2 * kind)
    assert posterior.values["u"].max() <= 0.3  # of a scope, the accepted repetition is kept
    np.testing.assert_array_equal(np.isnan(posterior.values["extra"]), kind == 0)
    assert len(set(posterior.trace_type.tolist())) == 2


def test_a_second_repetition_without_controlled_draws_loses_a_proposed_scope():
    """A delegated front end asks for controlled draws alone: a repetition without any shows in the trace only."""

    for repetitions, lost in (((0, 0), False), ((1,), True)):
        rng = np.random.default_rng(1)
        choice = ScopeChoice(ModelRunner(examples.model("branching"), Observations({}), 1), 1, "test", "first-shot")
        proposing = ProposalController(PriorSession(), AddressTable(), rng, Observations({}), choice)
        proposing.proposed_scopes.append(1)
        came = RecordedTrace(AddressTable(), scope=[1] * len(repetitions), repetition=list(repetitions))
        proposing.receive(came)
        assert proposing.lost is lost
        assert (proposing.log_weight == -math.inf) is lost
