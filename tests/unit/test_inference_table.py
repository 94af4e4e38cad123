# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Many observations: results, interruptions, failures, and the files of the table."""

import contextlib
import csv
import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from scipy import stats
from synthetic_posteriors import tau_posterior

from etalumis.errors import DatasetError, InferenceError
from etalumis.inference import Posterior, importance
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.conditioning import condition_on
from etalumis.inference_table import Engine, InferenceTable, ObservationSource, ProbabilityColumn, infer_all
from etalumis.inference_table.csv_text import csv_text
from etalumis.inference_table.record import summarise
from etalumis.models import examples
from etalumis.traces.format import Provenance
from etalumis.traces.observation import Observation, ObservedStatement

RUNS = 4000
PAIRS = {"low": (-1.0, 0.5), "middle": (2.0, 1.0), "high": (4.0, 3.0), "far": (6.0, 5.0)}
IDENTITY = {"engines": ["importance"], "settings": {"runs": RUNS}, "seed": 1, "probabilities": []}


def source_of(key, values, truth=None):
    """Return an observation of the two Gaussians."""
    observed = {f"obs{i}": ObservedStatement(np.asarray(value)) for i, value in enumerate(values)}
    named = {} if truth is None else {"mu": truth}
    observation = Observation(observed, (), 0, f"{key} in a test", 0, {}, named, {}, Provenance())
    return ObservationSource(key, f"{key}.h5", lambda: condition_on({f"{key}.h5": observation}))


def sampler(runs=RUNS, stop_at=None):
    """Return the engine; it is interrupted when it begins with observation number `stop_at`."""
    calls = []

    def sample(model, observations, *, seed, checkpoint):
        calls.append(seed)
        if len(calls) - 1 == stop_at:
            raise KeyboardInterrupt
        return importance(model, observations, runs=runs, seed=seed, checkpoint=checkpoint)

    return Engine("importance", {"runs": runs}, sample)


def model():
    return contextlib.nullcontext(examples.model("gaussian_unknown_mean"))


def no_model():
    raise AssertionError("nothing is left to do, so no simulator is needed")


def infer(path, sources, engines=None, start=model, force=False, **more):
    columns = [ProbabilityColumn.parse(text) for text in more.pop("columns", ())]
    table = InferenceTable(path, {**IDENTITY, "probabilities": [str(c) for c in columns]}, force=force)
    outcome = infer_all(sources, start, engines or [sampler()], table, seed=1, columns=columns, **more)
    return outcome, table


def without_times(records):
    return {key: {**record, "seconds": None, "attempts": None} for key, record in records.items()}


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def posterior_of(values):
    """Return mean, sd and log evidence of the two Gaussians."""
    precision = 1.0 / 5.0 + len(values) / 2.0
    mean = (1.0 / 5.0 + sum(values) / 2.0) / precision
    evidence = stats.multivariate_normal([1.0, 1.0], 5.0 * np.ones((2, 2)) + 2.0 * np.eye(2)).logpdf(values)
    return mean, precision**-0.5, float(evidence)


def test_means_probabilities_and_evidence_are_exact(tmp_path):
    sources = [source_of(key, values) for key, values in PAIRS.items()]
    outcome, table = infer(tmp_path / "t.csv", sources, columns=["P(mu > 2) >= 0.5", "mu in [0, 3]"])
    assert outcome.failed == {}
    assert list(table.records) == list(PAIRS)
    for key, values in PAIRS.items():
        record = table.records[key]
        mean, sd, evidence = posterior_of(values)
        found = record["quantities"]["mu"]
        assert abs(found["mean"] - mean) < 4 * found["mcse"]
        assert found["sd"] == pytest.approx(sd, rel=4 / math.sqrt(2 * found["ess"]))
        assert abs(record["log_evidence"] - evidence) < 4 * record["log_evidence_mcse"]
        exact = stats.norm(mean, sd)
        above = record["probabilities"]["P(mu > 2) >= 0.5"]
        assert abs(above["value"] - exact.sf(2.0)) < 4 * above["mcse"]
        assert above["passed"] is (above["value"] >= 0.5)
        inside = record["probabilities"]["P(mu in [0, 3])"]
        assert abs(inside["value"] - (exact.cdf(3.0) - exact.cdf(0.0))) < 4 * inside["mcse"]
        for share, value in found["quantiles"].items():
            error = math.sqrt(float(share) * (1 - float(share)) / record["ess"])
            assert abs(exact.cdf(value) - float(share)) < 4 * error
        assert record["status"] == "reliable"
        assert record["efficiency"] == pytest.approx(record["ess"] / RUNS)
    passed = [row["P(mu > 2) >= 0.5"] for row in rows_of(tmp_path / "t.csv")]
    assert passed == ["no", "no", "yes", "yes"]


def test_a_result_depends_neither_on_the_order_nor_on_the_other_observations(tmp_path):
    sources = [source_of(key, values) for key, values in PAIRS.items()]
    _, whole = infer(tmp_path / "a.csv", sources)
    _, other = infer(tmp_path / "b.csv", [sources[3], sources[1]])
    assert without_times(other.records) == {
        key: without_times(whole.records)[key] for key in ("far", "middle")
    }  # fmt: skip
    seeds = [record["seed"] for record in whole.records.values()]
    assert len(set(seeds)) == len(seeds)


def test_results_and_rows_do_not_depend_on_the_number_of_workers(tmp_path):
    def failing(_, observations, **rest):
        if observations["obs0"] == PAIRS["high"][0]:
            raise InferenceError("refused")
        return sampler().sample(_, observations, **rest)

    sources = [source_of(key, values) for key, values in PAIRS.items()]
    tables = {}
    for workers in (1, 3):
        path, keep = tmp_path / f"{workers}.csv", tmp_path / f"kept{workers}"
        engines = [Engine("importance", {"runs": RUNS}, failing)]
        outcome, table = infer(path, sources, engines, workers=workers, keep=keep)
        assert list(outcome.failed) == ["high"]
        assert sorted(file.stem for file in keep.iterdir()) == ["far", "low", "middle"]
        tables[workers] = without_times(table.records), [{**row, "seconds": ""} for row in rows_of(path)]
    assert tables[1] == tables[3]
    assert not list(tmp_path.glob("*.part"))


def test_the_draws_of_a_finished_engine_outlast_an_interrupted_repair_only(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("etalumis.inference_table.job.Checkpoint", functools.partial(Checkpoint, interval_s=0.0))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    resumed = []

    def few(model, observations, *, seed, checkpoint):  # too few draws to be reliable
        resumed.append(checkpoint.path.exists())
        return importance(model, observations, runs=300, seed=seed, checkpoint=checkpoint)

    weak = Engine("ic", {}, few)
    sources = [source_of(key, PAIRS[key]) for key in ("far", "high")]
    with pytest.raises(KeyboardInterrupt):
        infer(tmp_path / "t.csv", sources, [weak, Engine("smc", {}, interrupted)])
    assert [file.name for file in tmp_path.glob("*.part")] == ["t.csv.far.ic.part"]
    _, table = infer(tmp_path / "t.csv", sources, [weak, Engine("smc", {}, sampler().sample)])
    assert resumed == [False, True, False]
    assert "starting from the beginning" not in caplog.text
    assert [[attempt["engine"] for attempt in record["attempts"]] for record in table.records.values()] == [
        ["ic", "smc"], ["ic", "smc"],
    ]  # fmt: skip
    assert not list(tmp_path.glob("*.part"))


def test_an_interrupted_command_resumes_at_the_first_unfinished_observation(tmp_path, caplog):
    sources = [source_of(key, values) for key, values in PAIRS.items()]
    _, whole = infer(tmp_path / "whole.csv", sources)
    path = tmp_path / "t.csv"
    with pytest.raises(KeyboardInterrupt):
        infer(path, sources, [sampler(stop_at=2)])
    assert [row["id"] for row in rows_of(path)] == ["low", "middle"]
    lines = path.with_suffix(".jsonl")
    with lines.open("a", encoding="utf-8") as file:  # a process that was killed while it wrote a line
        file.write('{"id": "high", "status": "relia')
    calls = []
    engine = sampler()
    counting = dataclasses.replace(engine, sample=lambda *a, **k: calls.append(a) or engine.sample(*a, **k))
    with caplog.at_level("INFO"):
        _, table = infer(path, sources, [counting])
    assert "has the results of 2 observations already" in caplog.text
    assert "1/2  high: importance, ESS" in caplog.text
    assert len(calls) == 2
    assert without_times(table.records) == without_times(whole.records)
    assert [{**row, "seconds": ""} for row in rows_of(path)] == [
        {**row, "seconds": ""} for row in rows_of(tmp_path / "whole.csv")
    ]
    _, again = infer(path, sources, start=no_model)
    assert again.records == table.records
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.csv", "t.jsonl", "whole.csv", "whole.jsonl"]


def test_an_observation_that_fails_does_not_stop_the_others_and_is_tried_again(tmp_path, caplog):
    good = [source_of(key, values) for key, values in PAIRS.items()]
    misnamed = source_of("bad", (1.0,))  # has no obs1
    unreadable = ObservationSource("gone", "gone.h5", lambda: (_ for _ in ()).throw(DatasetError("cannot be read")))
    path = tmp_path / "t.csv"
    outcome, table = infer(path, [good[0], misnamed, unreadable, good[1]])
    assert list(outcome.failed) == ["gone", "bad"]
    assert "gone.h5: cannot be read" in caplog.text
    assert "bad.h5: the model also observes 'obs1', for which no value is given" in outcome.failed["bad"]
    assert {key: record["status"] for key, record in table.records.items()} == {
        "gone": "failed", "low": "reliable", "bad": "failed", "middle": "reliable",
    }  # fmt: skip
    rows = {row["id"]: row for row in rows_of(path)}
    assert rows["bad"]["verdict"] == outcome.failed["bad"]
    assert rows["bad"]["mu mean"] == ""
    corrected = source_of("bad", (1.0, 2.0))
    outcome, table = infer(path, [good[0], corrected, source_of("gone", (0.0, 0.0)), good[1]])
    assert outcome.failed == {}
    assert {record["status"] for record in table.records.values()} == {"reliable"}
    # a file that disappears later does not take its result with it
    outcome, table = infer(path, [ObservationSource("low", "low.h5", unreadable.read)], start=no_model)
    assert list(outcome.failed) == ["low"]
    assert table.records["low"]["status"] == "reliable"


def test_a_second_engine_is_used_where_the_first_one_is_not_reliable(tmp_path):
    def fail(model, observations, *, seed, checkpoint):
        raise InferenceError("no first run can produce the observation")

    rough = dataclasses.replace(sampler(runs=800), name="rough")
    broken = Engine("broken", {}, fail)
    sources = [source_of(key, PAIRS[key]) for key in ("middle", "far")]
    outcome, table = infer(tmp_path / "t.csv", sources, [rough, sampler()])
    assert [record["engine"] for record in table.records.values()] == ["rough", "importance"]
    assert [record["status"] for record in table.records.values()] == ["reliable", "reliable"]
    attempts = table.records["far"]["attempts"]
    assert [(attempt["engine"], attempt["status"]) for attempt in attempts] == [
        ("rough", "not reliable"), ("importance", "reliable"),
    ]  # fmt: skip
    assert table.records["far"]["seconds"] == pytest.approx(sum(attempt["seconds"] for attempt in attempts))
    # an engine that fails neither takes the result of an earlier one nor stops a later one
    _, table = infer(tmp_path / "b.csv", sources[1:], [rough, broken])
    assert table.records["far"]["status"] == "not reliable"
    assert table.records["far"]["attempts"][1]["verdict"] == "no first run can produce the observation"
    _, table = infer(tmp_path / "c.csv", sources[1:], [broken, sampler()])
    assert table.records["far"]["engine"] == "importance"
    outcome, _ = infer(tmp_path / "d.csv", sources[1:], [broken])
    assert outcome.failed == {"far": "far.h5: no first run can produce the observation"}


def test_an_observation_that_the_model_does_not_explain_is_named_in_the_table(tmp_path):
    """Two observations of one mean, each with standard deviation 1.4, that are 20 apart."""
    infer(tmp_path / "t.csv", [source_of("apart", (-9.0, 11.0)), source_of("middle", PAIRS["middle"])])
    apart, middle = rows_of(tmp_path / "t.csv")
    assert apart["status"] == middle["status"] == "reliable"  # the weights are
    assert "does not explain the observation" in apart["verdict"]
    assert float(apart["predictive p"]) < 1e-6
    assert "explain" not in middle["verdict"]
    assert 0.1 < float(middle["predictive p"]) < 0.9


def test_observations_can_be_added_but_not_exchanged(tmp_path):
    path = tmp_path / "t.csv"
    infer(path, [source_of("low", PAIRS["low"])])
    _, table = infer(path, [source_of("far", PAIRS["far"])])
    assert list(table.records) == ["low", "far"]
    with pytest.raises(DatasetError, match=r"t\.jsonl: has a record 'low' of another observation \(low in a test\)"):
        infer(path, [source_of("low", PAIRS["high"])])
    _, table = infer(path, [source_of("low", PAIRS["high"])], force=True)
    assert list(table.records) == ["low"]


def test_posteriors_are_kept_on_request(tmp_path):
    path, keep = tmp_path / "t.csv", tmp_path / "kept"
    sources = [source_of("low", PAIRS["low"], truth=0.5), source_of("far", PAIRS["far"])]
    _, before = infer(path, sources)
    _, table = infer(path, sources, keep=keep)  # not kept so far, so inferred again
    assert without_times(table.records) == without_times(before.records)
    assert sorted(file.name for file in keep.iterdir()) == ["far.h5", "low.h5"]
    kept = Posterior.load(keep / "low.h5")
    assert kept.truth == {"mu": 0.5}
    assert kept.info["observation_digest"] == table.records["low"]["observation_digest"]
    seed, observed = table.records["low"]["seed"], {"obs0": -1.0, "obs1": 0.5}
    direct = importance(examples.model("gaussian_unknown_mean"), observed, runs=RUNS, seed=seed)
    np.testing.assert_array_equal(kept.log_weight, direct.log_weight)
    assert rows_of(path)[0]["mu truth"] == "0.5"
    assert rows_of(path)[1]["mu truth"] == ""
    infer(path, sources, keep=keep, start=no_model)


def test_a_mistyped_quantity_is_refused_before_the_first_observation(tmp_path):
    path, sources = tmp_path / "t.csv", [source_of("low", PAIRS["low"])]
    with pytest.raises(
        InferenceError, match=r"--probability 'P\(nu > 0\)': there is no quantity 'nu'; the simulator has mu"
    ):
        infer(path, sources, columns=["nu > 0"])
    infer(path, sources, columns=["mu > 0"])  # the table had no result yet, so the expression may change
    with pytest.raises(DatasetError, match="obtained with another choice of expressions of --probability"):
        infer(path, sources, columns=["mu > 1"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engines": ["ic"]}, "obtained with another choice of engines"),
        ({"seed": 2}, "obtained with another choice of seed"),
        ({"settings": {"runs": 5}}, "obtained with another choice of settings of the engines"),
    ],
)
def test_results_of_other_settings_are_not_mixed(tmp_path, change, message):
    path = tmp_path / "t.csv"
    infer(path, [source_of("low", PAIRS["low"])])
    with pytest.raises(DatasetError, match=message):
        InferenceTable(path, {**IDENTITY, **change})
    assert list(InferenceTable(path, IDENTITY).records) == ["low"]
    path.unlink()  # as Snakemake does before a rule runs again
    assert list(InferenceTable(path, IDENTITY).records) == ["low"]
    assert InferenceTable(path, {**IDENTITY, **change}).records == {}
    infer(path, [source_of("low", PAIRS["low"])], force=True)
    assert InferenceTable(path, {**IDENTITY, **change}, force=True).records == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("my notes\n", "is not a file of format 'etalumis-inference-table'"),
        ("", "is not a file of format 'etalumis-inference-table'"),
        ('{"format": "etalumis-layers"}\n', "is a file of format 'etalumis-layers'"),
        ('{"format": "etalumis-inference-table", "version": 99}\n', "expected version 1"),
    ],
)
def test_other_files_are_not_overwritten(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.with_suffix(".jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        InferenceTable(path, IDENTITY)
    assert path.with_suffix(".jsonl").read_text(encoding="utf-8") == content
    path.with_suffix(".jsonl").unlink()
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"already exists, but t\.jsonl, from which such a table is written, "):
        InferenceTable(path, IDENTITY)
    with pytest.raises(DatasetError, match=r"expected a name that ends in \.csv"):
        InferenceTable(tmp_path / "t.h5", IDENTITY)


def test_an_altered_line_is_named(tmp_path):
    path = tmp_path / "t.csv"
    infer(path, [source_of("low", PAIRS["low"])])
    lines = path.with_suffix(".jsonl")
    lines.write_text(lines.read_text(encoding="utf-8").replace('{"id"', '{"id', 1), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"t\.jsonl: line 2 is not JSON"):
        InferenceTable(path, IDENTITY)


def test_no_weight_at_all_is_a_result_and_its_line_is_plain_json(tmp_path):
    posterior = importance(examples.model("gaussian_unknown_mean"), {"obs0": 0.0, "obs1": 0.0}, runs=50, seed=1)
    posterior.log_weight[:] = -np.inf
    record = {"id": "none", **summarise(posterior, [ProbabilityColumn.parse("P(mu > 0) >= 0.5")])}
    table = InferenceTable(tmp_path / "t.csv", IDENTITY)
    table.append(record)
    table.write_csv()
    line = table.lines_path.read_text(encoding="utf-8").splitlines()[1]
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["status"] == "not reliable"
    assert found["log_evidence"] == "-inf"
    (row,) = rows_of(tmp_path / "t.csv")
    assert row["log_evidence"] == "-inf"
    assert row["mu mean"] == row["P(mu > 0)"] == row["P(mu > 0) >= 0.5"] == ""
    assert "have weight zero" in row["verdict"]


def test_channels_have_a_column_each_if_they_are_probable_or_true():
    posteriors = {}
    for key, codes in {"a": [1, 1, 2, 7], "b": [3, 3, 3, 3]}.items():
        posterior = tau_posterior("ic", seed=1, log_weight_sd=0.5)
        posterior.values["channel"] = np.resize(codes, len(posterior)).astype(float)
        posterior.log_weight[posterior.values["channel"] == 7] -= 20.0  # not probable
        posterior.truth["channel"] = np.array(5.0 if key == "b" else 1.0)
        posteriors[key] = {"id": key, **summarise(posterior)}
    rows = list(csv.DictReader(csv_text(list(posteriors.values())).splitlines()))
    channels = [name for name in rows[0] if name.startswith("P(")]
    assert channels == ["P(channel = 1)", "P(channel = 2)", "P(channel = 3)", "P(channel = 5)"]
    assert rows[1]["P(channel = 3)"] == "1"
    assert rows[1]["P(channel = 1)"] == rows[1]["P(channel = 5)"] == "0"
    assert [row["channel truth"] for row in rows] == ["1", "5"]
    assert posteriors["a"]["quantities"]["channel"]["probabilities"]["7"] > 0
    at = list(rows[0])
    assert at.index("channel truth") == at.index("P(channel = 5)") + 1
