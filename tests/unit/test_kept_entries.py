# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The latent state in posteriors: entries by address, of traces that differ in their addresses."""

import itertools
import json

import h5py
import numpy as np
import pytest
from unit.engine_runs import (
    ENGINES,
    EveryStep,
    Interrupted,
    Interrupting,
    with_ic,
    with_importance,
    with_ladder,
    with_rmh,
    with_smc,
)

from etalumis.distributions import Bernoulli, Normal, Uniform
from etalumis.errors import DatasetError, InferenceError
from etalumis.inference import Posterior
from etalumis.inference.entry_selection import EntrySelection
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample
from etalumis.ppx import Simulator

OBSERVED = {"obs0": 1.0, "obs1": 2.0}


def the_mean(entries):
    """The mean that the last two draws of Marsaglia's method give."""
    x, y = list(entries.values())[-2:]
    s = x * x + y * y
    return examples.PRIOR_MEAN + examples.PRIOR_STDDEV * x * np.sqrt(-2.0 * np.log(s) / s)


def assert_equal_entries(found, expected):
    assert len(found) == len(expected)
    assert [found.of(i) for i in range(len(found))] == [expected.of(i) for i in range(len(expected))]
    assert sorted(found.addresses) == sorted(expected.addresses)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_whole_latent_state_of_a_loop_of_varying_length(engine, tmp_path):
    """Every repetition of `marsaglia` is two latents: the last two of each draw determine its mean."""
    engine(examples.model("marsaglia"), OBSERVED, entries=["all"]).save(tmp_path / "p.h5")
    posterior = Posterior.load(tmp_path / "p.h5")
    entries = posterior.entries
    assert len(set(entries.sizes.tolist())) > 1
    assert [the_mean(entries.of(i)) for i in range(len(posterior))] == pytest.approx(posterior.values["mu"].tolist())
    assert {entry.kind for entry in entries.addresses} == {"Uniform"}
    # a matrix has a cell per draw and address
    assert len(entries.value) <= entries.sizes.sum() < len(posterior) * len(entries.addresses)
    for entry in entries.addresses:
        column = entries.column(entry.address)
        assert [entries.of(i).get(entry.address) for i in range(len(posterior))] == [
            None if np.isnan(value) else value for value in column
        ]


def test_the_number_of_repetitions_has_its_exact_distribution():
    """It does not depend on the observation: geometric, with acceptance probability pi / 4."""
    posterior = with_importance(examples.model("marsaglia"), OBSERVED, entries=["all"], runs=3000)
    repetitions, weight = posterior.entries.sizes / 2, posterior.weight
    for value, expected in ((repetitions, 4 / np.pi), (repetitions == 1, np.pi / 4)):
        mean = float(value @ weight)
        error = np.sqrt(np.sum((weight * (value - mean)) ** 2))
        assert abs(mean - expected) < 4 * error < 0.2


def test_an_address_has_its_stack_its_instance_its_name_and_the_kind_of_its_prior():
    entries = with_importance(examples.model("branching"), {"obs": 6.0}, entries=["all"]).entries
    assert [(e.name, e.kind, e.instance) for e in entries.addresses] == [("r", "Poisson", 1), ("s", "Poisson", 1)]
    assert [e.stack.partition("+")[0] for e in entries.addresses] == ["[branching", "[branching"]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["all"], {"theta", "x", "u"}),
        (["theta"], {"theta"}),
        (["t*", "u"], {"theta", "u"}),
        (["*__Uniform__2"], set()),
        (["*__Uniform__1"], {"theta", "x", "u"}),
        (["T*"], set()),
    ],
)
def test_patterns_of_addresses_and_names(patterns, names):
    posterior = with_importance(examples.model("dependent_loop"), {"obs": 0.4}, entries=patterns)
    assert {entry.name for entry in posterior.entries.addresses} == names
    for entry in posterior.entries.addresses:
        np.testing.assert_array_equal(posterior.entries.column(entry.address), posterior.values[entry.name])


def test_a_pattern_of_an_instance_selects_the_second_repetition():
    entries = with_importance(examples.model("marsaglia"), OBSERVED, entries=["*__Uniform__2"]).entries
    assert [entry.instance for entry in entries.addresses] == [2, 2]
    assert set(entries.sizes.tolist()) == {0, 2}


def test_an_address_with_brackets_is_a_pattern_of_itself():
    model = examples.model("branching")
    address = with_importance(model, {"obs": 6.0}, entries=["s"]).entries.addresses[0].address
    assert "[" in address  # a set of characters in a pattern
    assert [e.name for e in with_importance(model, {"obs": 6.0}, entries=[address]).entries.addresses] == ["s"]


def test_uncontrolled_draws_and_rejected_repetitions_are_not_kept():
    def model():
        sample(Normal(0.0, 1.0), control=False, name="uncontrolled")
        with rejection_scope() as scope:
            while sample(Uniform(0.0, 1.0), name="u") > 0.3:
                scope.repeat()
        observe(Normal(sample(Normal(0.0, 1.0), name="x"), 1.0), name="obs")

    entries = with_importance(FunctionModel(model), {"obs": 0.0}, entries=["all"]).entries
    assert [entry.name for entry in entries.addresses] == ["u", "x"]
    assert entries.column(entries.addresses[0].address).max() <= 0.3


@pytest.mark.parametrize("delegate", [True, False], ids=["delegated", "asked"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_simulator_in_cpp_gives_its_whole_latent_state(engine, delegate, cpp_examples):
    with Simulator([str(cpp_examples / "marsaglia")], delegate=delegate) as simulator:
        posterior = engine(simulator, OBSERVED, entries=["all"])
    entries = posterior.entries
    assert len(set(entries.sizes.tolist())) > 1
    assert [the_mean(entries.of(i)) for i in range(len(posterior))] == pytest.approx(posterior.values["mu"].tolist())


def test_repeated_states_of_a_chain_share_their_values():
    posterior = with_rmh(examples.model("marsaglia"), OBSERVED, entries=["all"], thin=1)
    states = [posterior.entries.of(i) for i in range(len(posterior))]
    changes = sum(before != after for before, after in itertools.pairwise(states))
    assert len(set(posterior.entries.start.tolist())) == 1 + changes < len(posterior)
    assert len(posterior.entries.value) < posterior.entries.sizes.sum()


@pytest.mark.parametrize("engine", [with_rmh, with_ladder, with_importance, with_ic])
def test_an_interrupted_engine_resumes_with_the_same_entries(engine, tmp_path):
    def sampled(model):
        checkpoint = EveryStep(tmp_path / "p.h5.part", {"seed": 1})
        return engine(model, OBSERVED, entries=["all"], runs=90, checkpoint=checkpoint)

    whole = engine(examples.model("marsaglia"), OBSERVED, entries=["all"], runs=90)
    with pytest.raises(Interrupted):
        sampled(Interrupting(examples.model("marsaglia"), 55))
    assert 0 < len(Posterior.load(tmp_path / "p.h5.part").entries) < len(whole)
    assert_equal_entries(sampled(examples.model("marsaglia")).entries, whole.entries)


def test_an_interrupted_population_resumes_with_the_same_entries(tmp_path):
    def sampled(model, **more):
        return with_smc(model, {"obs0": 8.0, "obs1": 9.0}, entries=["all"], **more)

    def checkpoint():
        return EveryStep(tmp_path / "p.h5.part", {"seed": 1})

    whole = sampled(examples.model("marsaglia"))
    with pytest.raises(Interrupted):
        sampled(Interrupting(examples.model("marsaglia"), 300), checkpoint=checkpoint())
    assert len(Posterior.load(tmp_path / "p.h5.part").entries) == 20
    assert_equal_entries(sampled(examples.model("marsaglia"), checkpoint=checkpoint()).entries, whole.entries)


def test_a_chain_interrupted_in_its_burn_in_keeps_all_entries(tmp_path):
    def sampled(model, **more):
        return with_rmh(model, OBSERVED, entries=["all"], runs=120, burn_in=60, **more)

    def checkpoint():
        return EveryStep(tmp_path / "p.h5.part", {"seed": 1})

    with pytest.raises(Interrupted):
        sampled(Interrupting(examples.model("marsaglia"), 40), checkpoint=checkpoint())
    assert Posterior.load(tmp_path / "p.h5.part").entries is None
    resumed = sampled(examples.model("marsaglia"), checkpoint=checkpoint())
    assert_equal_entries(resumed.entries, sampled(examples.model("marsaglia")).entries)


def test_gathered_jobs_have_the_entries_of_all():
    """Job 1 meets addresses that job 0 does not have, and numbers common ones differently."""

    def model():
        first = sample(Bernoulli(0.5), name="first")
        for _ in range(int(first) + 1):
            sample(Normal(0.0, 1.0), name="extra")
        observe(Normal(sample(Normal(0.0, 1.0), name="x"), 1.0), name="obs")

    jobs = [
        with_importance(FunctionModel(model), {"obs": 0.0}, entries=["all"], runs=runs, job=job)
        for job, runs in ((3, 1), (1, 40), (2, 40))
    ]
    assert len({len(job.entries.addresses) for job in jobs}) > 1
    joined = Posterior.concatenate(jobs).entries
    each = [job.entries.of(i) for job in jobs for i in range(len(job))]
    assert [joined.of(i) for i in range(len(joined))] == each
    assert len(joined.layout_offset) == 3  # two layouts


def test_posteriors_that_keep_different_entries_are_not_joined():
    model = examples.model("branching")
    parts = [with_importance(model, {"obs": 6.0}, entries=entries, job=job) for job, entries in enumerate([["r"], []])]
    with pytest.raises(InferenceError, match=r"keep different entries: posteriors.entries is \[\] and \['r'\]"):
        Posterior.concatenate(parts)


def test_files_without_entries_and_of_version_2_are_read(tmp_path):
    path = tmp_path / "p.h5"
    with_importance(examples.model("branching"), {"obs": 6.0}).save(path)
    with h5py.File(path, "r+") as file:
        assert "entries" not in file
        file.attrs["version"] = 2
    assert Posterior.load(path).entries is None


def _damage(name, change):
    def alter(group):
        column = group[name][()]
        change(column)
        group[name][...] = column

    return alter


@pytest.mark.parametrize(
    "alter",
    [
        _damage("value", lambda column: column.__setitem__(0, 9.0)),
        _damage("layout", lambda column: column.__setitem__(0, 99)),
        lambda group: group.__delitem__("start"),
    ],
    ids=["altered", "index", "missing"],
)
def test_altered_entries_are_refused(tmp_path, alter):
    path = tmp_path / "p.h5"
    with_importance(examples.model("branching"), {"obs": 6.0}, entries=["all"]).save(path)
    with h5py.File(path, "r+") as file:
        alter(file["entries"])
    with pytest.raises(DatasetError, match=r"p\.h5"):
        Posterior.load(path)


@pytest.mark.parametrize("name", ["layout_offset", "layout_address", "layout", "start"])
def test_columns_that_contradict_each_other_are_refused(tmp_path, name):
    """A writer of another program may compute the right checksums of wrong columns."""
    posterior = with_importance(examples.model("branching"), {"obs": 6.0}, entries=["all"])
    getattr(posterior.entries, name)[-1] += 1000
    posterior.save(tmp_path / "p.h5")
    with pytest.raises(DatasetError, match=r"'entries' contradict"):
        Posterior.load(tmp_path / "p.h5")


def test_the_file_names_patterns_addresses_and_kinds(tmp_path):
    with_importance(examples.model("branching"), {"obs": 6.0}, entries=["s", "r"]).save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:
        dictionary = json.loads(file["entries/dictionary"][()].tobytes())
    assert dictionary["patterns"] == ["s", "r"]
    assert dictionary["kind"] == ["Poisson", "Poisson"]
    assert sorted(dictionary["name"]) == ["r", "s"]


def test_no_patterns_select_nothing():
    assert EntrySelection.of(()) is None
    assert with_importance(examples.model("branching"), {"obs": 6.0}).entries is None
