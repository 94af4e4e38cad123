# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis calibrate`: ranks, coverage, verdicts, resuming, the file and the verb."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from served import SERVE

from etalumis.calibration import Case, CategoryRecord, Engine, calibrate, category_rank, coverage, rank_of_truth
from etalumis.calibration.cases import read_cases
from etalumis.calibration.categories import confusion, probability_bins
from etalumis.calibration.ranks import thinned
from etalumis.calibration.simulation import simulate
from etalumis.calibration.summary import DEFAULT_THRESHOLDS, summarise, usable_cases
from etalumis.calibration.uniformity import uniformity
from etalumis.calibration.usability import Reliability
from etalumis.cli import main
from etalumis.diagnostics.arviz_calls import ecdf_band
from etalumis.distributions import Categorical, Normal
from etalumis.errors import DatasetError, InferenceError
from etalumis.figures import calibration as figures
from etalumis.figures import style
from etalumis.inference import Posterior
from etalumis.models import FunctionModel, examples, observe, sample
from etalumis.seeds import generator

GAUSSIAN = examples.model("gaussian_unknown_mean")
POSTERIOR_VARIANCE = 1.0 / (1.0 / 5.0 + 2.0 / 2.0)


def posterior_of(values, log_weight=None, engine="importance", chain=None):
    count = len(next(iter(values.values())))
    zeros = np.zeros(count)
    return Posterior(
        engine=engine,
        values=values,
        log_weight=zeros if log_weight is None else log_weight,
        log_likelihood=zeros,
        log_prior=zeros,
        chain=np.zeros(count, dtype=np.int64) if chain is None else chain,
        trace_type=np.full(count, b"0" * 32, dtype="S32"),
    )


def gaussian_engine(width=1.0, shift=0.0, draws=200):
    """Return an engine that draws from the exact posterior of the Gaussian example, or from a distorted one."""

    def exact(model, observations, *, seed, checkpoint):
        mean = POSTERIOR_VARIANCE * (1.0 / 5.0 + float(observations["obs0"] + observations["obs1"]) / 2.0)
        noise = generator(seed, "exact", 0).standard_normal(draws)
        return posterior_of({"mu": mean + math.sqrt(POSTERIOR_VARIANCE) * (shift + width * noise)})

    return Engine("importance", {"width": width, "shift": shift}, exact)


def checks(engine, observations=100):
    cases = calibrate(GAUSSIAN, engine, observations=observations, seed=3)
    return {check["subject"]: check for check in summarise("importance", cases)["checks"]}


# ------------------------------------------------------------------ ranks


def test_the_rank_counts_the_draws_below_the_truth_and_the_truth_itself():
    values, weight = np.array([1.0, 2.0, 3.0]), np.ones(3)
    assert rank_of_truth(values, weight, 2.5, tie=0.5) == pytest.approx((2 + 0.5) / 4)
    assert rank_of_truth(values, 7 * weight, 2.5, tie=0.5) == pytest.approx((2 + 0.5) / 4)


def test_ties_are_ordered_by_the_random_number():
    values, weight = np.array([1.0, 2.0, 2.0 + 1e-15, 3.0]), np.ones(4)
    found = [rank_of_truth(values, weight, 2.0, tie) for tie in (0.0, 1.0)]
    assert found == pytest.approx([1 / 5, 4 / 5])


def test_a_quantity_is_ranked_among_the_draws_that_have_it():
    values = np.array([np.nan, 1.0, 2.0, np.inf])
    assert rank_of_truth(values, np.ones(4), 1.5, 0.0) == pytest.approx(1 / 4)
    assert math.isnan(rank_of_truth(values, np.ones(4), math.nan, 0.5))
    assert math.isnan(rank_of_truth(values, np.zeros(4), 1.5, 0.5))


def test_categories_are_ranked_by_their_probability():
    values = np.array([7.0] * 6 + [2.0] * 3 + [5.0])
    weight = np.ones(10)
    assert category_rank(values, weight, 7.0, 1.0) == pytest.approx(7 / 11)
    assert category_rank(values, weight, 2.0, 0.0) == pytest.approx(6 / 11)
    assert category_rank(values, weight, 9.0, 1.0) == pytest.approx(1.0)  # no draw has the true category


@pytest.mark.parametrize("rank", [rank_of_truth, category_rank])
@pytest.mark.parametrize("draws", [1, 4, 30])
def test_ranks_of_exchangeable_draws_are_uniform(rank, draws):
    rng = np.random.default_rng(1)
    codes = rng.choice([3.0, 1.0, 2.0, 8.0], size=(4000, draws + 1), p=[0.5, 0.25, 0.2, 0.05])
    ranks = [rank(row[1:], np.ones(draws), row[0], rng.random()) for row in codes]
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def test_ranks_among_weighted_draws_are_uniform_if_the_effective_sample_is_large():
    rng = np.random.default_rng(2)
    ranks = []
    for _ in range(1500):  # target N(0, 1), proposal N(0, 1.5)
        x = 1.5 * rng.standard_normal(300)
        weight = stats.norm.pdf(x) / stats.norm.pdf(x, scale=1.5)
        ranks.append(rank_of_truth(x, weight, rng.standard_normal(), rng.random()))
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def test_chains_are_thinned_to_their_effective_sample_size():
    chain = np.repeat([0, 1], 50)
    kept = thinned(chain, 10.0)
    assert len(kept) == 10
    assert set(np.diff(kept)) == {10}
    assert np.array_equal(thinned(chain, math.nan), np.arange(100))


# ------------------------------------------------------------------ uniformity and coverage


def test_the_confidence_band_holds_for_the_whole_function():
    points, low, high = ecdf_band(60, 0.9)
    samples = np.sort(np.random.default_rng(5).random((3000, 60)), axis=1)
    ecdf = np.array([np.searchsorted(row, points, side="right") for row in samples]) / 60
    inside = ((ecdf >= low - 1e-9) & (ecdf <= high + 1e-9)).all(axis=1).mean()
    assert abs(inside - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 3000) + 0.01


def test_uniformity_needs_ranks():
    assert not uniformity(np.array([0.5, math.nan]), 0.95).enough
    assert uniformity(np.linspace(0.005, 0.995, 100), 0.95).inside
    assert not uniformity(np.full(100, 0.5), 0.95).inside


def test_coverage_counts_central_intervals_and_sets_of_probable_values():
    ranks = np.array([0.1, 0.3, 0.5, 0.74, 0.9])
    assert coverage(ranks, 0.5).covered == 3
    assert coverage(ranks, 0.5, categorical=True).covered == 3
    assert coverage(ranks, 0.9, categorical=True).covered == 5
    assert coverage(np.array([math.nan, 0.5]), 0.5).share == 0.5  # no posterior, no interval
    found = coverage(np.full(100, 0.5), 0.5)
    assert (found.low, found.high, found.compatible) == (40, 60, False)


# ------------------------------------------------------------------ right and wrong engines


def test_the_exact_posterior_passes():
    found = checks(gaussian_engine())
    assert [check["sentence"] for check in found.values() if not check["passed"]] == []
    assert set(found) == {"usable", "ranks", "coverage"}


@pytest.mark.parametrize(
    ("engine", "words", "covers"),
    [
        (gaussian_engine(width=0.6), "too narrow", "less often"),
        (gaussian_engine(width=1.8), "too wide", "more often"),
        (gaussian_engine(shift=1.0), "biased high", "less often"),
        (gaussian_engine(shift=-1.0), "biased low", "less often"),
    ],
    ids=["narrow", "wide", "high", "low"],
)
def test_a_wrong_posterior_is_caught_and_described(engine, words, covers):
    found = checks(engine)
    assert not found["ranks"]["passed"]
    assert words in found["ranks"]["sentence"]
    assert covers in found["coverage"]["sentence"]
    assert not found["coverage"]["passed"]


KINDS = (0.6, 0.3, 0.1)


def kind_model():
    kind = int(sample(Categorical(KINDS), name="kind"))
    observe(Normal(float(kind), 1.0), name="obs")


def kind_engine(power):
    """Return an engine with the exact probabilities of the kinds, raised to a power."""

    def exact(model, observations, *, seed, checkpoint):
        probabilities = np.array(KINDS) * stats.norm.pdf(float(observations["obs"]), np.arange(3), 1.0)
        probabilities = probabilities**power / np.sum(probabilities**power)
        return posterior_of({"kind": generator(seed, "exact", 0).choice(3, size=400, p=probabilities).astype(float)})

    return Engine("importance", {"power": power}, exact)


@pytest.mark.parametrize(("power", "words"), [(1.0, "uniform (within"), (4.0, "too certain"), (0.1, "not certain")])
def test_probabilities_of_categories_are_calibrated_or_not(power, words):
    model = FunctionModel(kind_model, "kinds")
    cases = calibrate(model, kind_engine(power), observations=150, seed=1, categorical=["kind"])
    result = summarise("importance", cases)
    (ranks,) = (check for check in result["checks"] if check["subject"] == "ranks")
    assert words in ranks["sentence"]
    assert ranks["passed"] == (power == 1.0)
    (categories,) = (check for check in result["checks"] if check["subject"] == "categories")
    assert categories["passed"] == (power == 1.0)
    assert np.sum(result["quantities"]["kind"]["confusion"]["counts"]) == 150


def test_the_table_of_categories_counts_true_against_most_probable():
    records = [CategoryRecord(1, {1: 0.7, 2: 0.3}), CategoryRecord(1, {2: 0.6, 1: 0.4}), CategoryRecord(4, {2: 1.0})]
    found = confusion([*records, CategoryRecord(1, {})])
    assert found.codes == [1, 4, 2]
    assert found.counts.tolist() == [[1, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert (found.hits, found.expected) == (1, pytest.approx(0.7 + 0.6 + 1.0))
    bins = probability_bins(records, edges=(0.0, 0.5, 1.0))
    assert [(one.predictions, one.observed) for one in bins] == [(6, pytest.approx(2 / 6)), (3, pytest.approx(1 / 3))]


# ------------------------------------------------------------------ posteriors that are not usable


def test_unusable_posteriors_are_counted_and_reported():
    exact = gaussian_engine()

    def sometimes(model, observations, *, seed, checkpoint):
        posterior = exact.sample(model, observations, seed=seed, checkpoint=None)
        kind = seed % 4
        if kind == 1:
            posterior.log_weight[1:] = -50.0
        if kind == 2:
            posterior.log_weight[:] = -np.inf
        if kind == 3:
            posterior.log_weight[0] = np.nan
        return posterior

    cases = calibrate(GAUSSIAN, Engine("importance", {}, sometimes), observations=60, seed=3)
    result = summarise("importance", cases)
    assert len(cases) == 60
    assert set(result["problems"]) == {"ESS below 100", "no draw with a weight", "error of the engine"}
    assert result["usable"] + sum(result["problems"].values()) == 60
    ranks = result["quantities"]["mu"]
    assert ranks["usable"]["ranks"] == result["usable"]
    no_rank = result["problems"]["no draw with a weight"] + result["problems"]["error of the engine"]
    assert ranks["all"]["without_rank"] == no_rank
    assert ranks["all"]["coverage"]["0.9"]["cases"] == 60
    sentence = result["checks"][0]["sentence"]
    assert f"{result['usable']} of 60 posteriors are usable" in sentence
    assert "say nothing about observations of the other kind" in sentence


def test_weights_with_a_heavy_tail_and_chains_that_differ_are_not_usable():
    def case(markov, draws=5000, **numbers):
        found = Reliability(draws, **{"ess": 500.0, "khat": math.nan, "rhat": math.nan, **numbers})
        return Case(0, found, markov, {"x": 1.0}, {"x": 0.5})

    good = [case(False, khat=0.5), case(False, khat=-math.inf), case(True, rhat=1.01), case(True)]
    bad = [case(False, khat=0.72), case(False), case(True, rhat=1.2), case(True, ess=0.0), case(False, 100, khat=0.6)]
    assert usable_cases([*good, *bad]) == good
    assert usable_cases(bad, replace(DEFAULT_THRESHOLDS, khat=0.9, rhat=1.3)) == [bad[0], bad[2]]


def test_an_engine_that_always_fails_stops_the_calibration(tmp_path):
    def fails(model, observations, *, seed, checkpoint):
        raise InferenceError("the network was trained on another observation")

    with pytest.raises(InferenceError, match=r"any of the first 3 observations.*another observation"):
        calibrate(GAUSSIAN, Engine("ic", {}, fails), observations=50, seed=1, path=tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


def test_chains_are_ranked_with_their_autocorrelation():
    """Chains with 20 times fewer effective draws than draws pass, as their ranks are those of thinned chains."""

    def walk(model, observations, *, seed, checkpoint):
        mean = POSTERIOR_VARIANCE * (1.0 / 5.0 + float(observations["obs0"] + observations["obs1"]) / 2.0)
        steps = generator(seed, "walk", 0).standard_normal((2, 6000))
        chains = np.empty_like(steps)
        chains[:, 0] = steps[:, 0]
        for at in range(1, steps.shape[1]):
            chains[:, at] = 0.9 * chains[:, at - 1] + math.sqrt(1 - 0.9**2) * steps[:, at]
        values = {"mu": mean + math.sqrt(POSTERIOR_VARIANCE) * chains.ravel()}
        return posterior_of(values, engine="rmh", chain=np.repeat([0, 1], steps.shape[1]))

    cases = calibrate(GAUSSIAN, Engine("rmh", {}, walk), observations=40, seed=2)
    assert all(300 < case.found.ess < 1500 and case.found.rhat < 1.05 for case in cases)
    assert all(check["passed"] for check in summarise("rmh", cases)["checks"])


# ------------------------------------------------------------------ truths, file, resuming


def test_truths_and_observations_depend_on_seed_and_index_only():
    first, again, other = (simulate(GAUSSIAN, 1, index) for index in (4, 4, 5))
    assert first.truth == again.truth
    assert first.observations == again.observations
    assert first.observations.keys() == {"obs0", "obs1"}
    assert first.truth["mu"] != other.truth["mu"]
    assert simulate(GAUSSIAN, 1, 4, ["obs1"]).observations == {**first.observations, "obs1": None}


def test_a_model_without_observations_or_with_repeated_names_is_refused():
    def twice():
        for _ in range(2):
            observe(Normal(0.0, 1.0), name="y")

    def nameless():
        observe(Normal(0.0, 1.0))

    with pytest.raises(InferenceError, match="'y' several times"):
        simulate(FunctionModel(twice, "twice"), 1, 0)
    with pytest.raises(InferenceError, match="has no name"):
        simulate(FunctionModel(nameless, "nameless"), 1, 0)
    with pytest.raises(InferenceError, match="nothing to condition on"):
        simulate(GAUSSIAN, 1, 0, ["obs0", "obs1"])


def test_an_interrupted_calibration_resumes_and_gives_the_same_result(tmp_path):
    exact, asked = gaussian_engine(), []

    def interrupted(model, observations, *, seed, checkpoint):
        if len(asked) == 7:
            raise KeyboardInterrupt
        asked.append(seed)
        return exact.sample(model, observations, seed=seed, checkpoint=None)

    path, engine = tmp_path / "c.json", replace(exact, sample=interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(GAUSSIAN, engine, observations=20, seed=3, path=path)
    assert [case.index for case in read_cases(path)[1]] == list(range(7))
    resumed = calibrate(GAUSSIAN, exact, observations=20, seed=3, path=path)
    whole = calibrate(GAUSSIAN, exact, observations=20, seed=3)
    assert [case.ranks for case in resumed] == [case.ranks for case in whole]
    assert resumed[0].seconds == read_cases(path)[1][0].seconds  # from the file


def test_cases_do_not_depend_on_the_number_of_workers():
    one, two = (calibrate(GAUSSIAN, gaussian_engine(), observations=9, seed=3, workers=n) for n in (1, 2))
    assert [repr(replace(case, seconds=0.0)) for case in one] == [repr(replace(case, seconds=0.0)) for case in two]


def test_a_file_of_another_calibration_is_not_continued(tmp_path):
    path = tmp_path / "c.json"
    calibrate(GAUSSIAN, gaussian_engine(), observations=2, seed=3, path=path)
    with pytest.raises(DatasetError, match="calibration with seed 3, not 4"):
        calibrate(GAUSSIAN, gaussian_engine(), observations=2, seed=4, path=path)
    with pytest.raises(DatasetError, match="settings"):
        calibrate(GAUSSIAN, gaussian_engine(width=2.0), observations=2, seed=3, path=path)
    for text in ("{", "[]", '{"format": "etalumis-calibration", "version": 1}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=r"c\.json"):
            read_cases(path)


def test_cases_survive_the_file(tmp_path):
    path = tmp_path / "c.json"
    model = FunctionModel(kind_model, "kinds")
    cases = calibrate(model, kind_engine(1.0), observations=5, seed=1, path=path, categorical=["kind"])
    found = read_cases(path)[1]
    assert [case.to_json() for case in found] == [case.to_json() for case in cases]
    assert found[0].categories == cases[0].categories


# ------------------------------------------------------------------ figures


def random_cases(count, codes, usable=True):
    rng = np.random.default_rng(4)
    found = Reliability(5000, 500.0 if usable else 3.0, 0.3, math.nan)
    tables = rng.dirichlet(np.full(codes, 0.3), size=count)
    return [
        Case(
            index=index,
            found=found,
            markov=False,
            truths={"px": 0.0, "channel": 1.0},
            ranks={"px": rng.random(), "channel": rng.random()},
            categories={"channel": CategoryRecord(int(rng.choice(codes, p=table)), dict(enumerate(map(float, table))))},
        )
        for index, table in enumerate(tables)
    ]


@pytest.mark.parametrize("cases", [random_cases(60, 25), random_cases(4, 2), random_cases(20, 3, usable=False)])
def test_figures_are_drawn_with_verdicts_in_words(cases, tmp_path):
    result = summarise("ic", cases)
    labels = [f"X_{code} Y" for code in range(25)]
    drawn = figures.draw_all(result, cases, usable_cases(cases), labels)
    assert [drawing.stem for drawing in drawn] == list(figures.STEMS)
    for drawing in drawn:
        style.save(drawing, tmp_path, ["png"])
        caption = (tmp_path / f"{drawing.stem}.md").read_text(encoding="utf-8")
        assert f"{result['usable']} of {len(cases)} posteriors are usable" in caption
        assert "ok: " in caption


# ------------------------------------------------------------------ the verb

MODEL = """\
from etalumis.distributions import Bernoulli, Normal
from etalumis.models import observe, sample

def pair():
    x = sample(Normal(0.0, 1.0), name="x")
    up = sample(Bernoulli(0.3), name="up")
    observe(Normal(x + 2.0 * up, 1.0), name="left")
    observe(Normal(x, 1.0), name="right")
"""


@pytest.fixture
def coupled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pair.py").write_text(MODEL, encoding="utf-8")
    Path("config.yaml").write_text(
        "run: {seed: 3}\nposteriors: {rmh: {runs: 400, thin: 1, temperatures: 2}}\n", encoding="utf-8"
    )
    assert main(["simulator", "couple", "--output", "coupled", "--", *SERVE, "pair:pair", "{endpoint}"]) == 0


@pytest.mark.usefixtures("coupled")
def test_calibrate_writes_resumes_and_judges_again(capsys):
    command = ["calibrate", "--config", "config.yaml", "--simulator", "coupled", "--engine", "importance"]
    command += ["--runs", "60", "--categorical", "up", "--format", "png", "--output", "out"]
    assert main([*command, "--observations", "10", "--min-ess", "5", "--max-khat", "1"]) == 0
    printed = capsys.readouterr().out
    assert "posteriors are usable" in printed
    content = json.loads(Path("out/calibration.json").read_text(encoding="utf-8"))
    assert len(content["observations"]) == 10
    assert content["results"]["quantities"].keys() == {"up", "x"}
    names = {path.name for path in Path("out").iterdir()}
    assert {f"{stem}.{ending}" for stem in figures.STEMS for ending in ("png", "md")} < names
    assert main([*command, "--observations", "12", "--quantities", "x", "--min-ess", "1000"]) == 0
    assert "0 of 12 posteriors are usable; not usable: 12 with ESS below 1,000" in capsys.readouterr().out
    again = json.loads(Path("out/calibration.json").read_text(encoding="utf-8"))
    assert again["observations"][:10] == content["observations"]
    rows = list(csv.DictReader(Path("out/calibration.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["observation"] for row in rows] == [str(index) for index in range(12)]
    assert {row["problem"] for row in rows} == {"ESS below 1,000"}


@pytest.mark.usefixtures("coupled")
def test_calibrate_runs_rmh_and_refuses_another_calibration(capsys):
    command = ["calibrate", "--config", "config.yaml", "--simulator", "coupled", "--output", "out", "--format", "png"]
    assert main([*command, "--engine", "rmh", "--unconditioned", "left", "--observations", "2"]) == 0
    assert "RMH: " in capsys.readouterr().out
    other = [*command, "--engine", "importance", "--runs", "50", "--observations", "2"]
    assert main(other) == 1
    assert "is a calibration with engine 'rmh', not 'importance'" in capsys.readouterr().err
    assert main([*other, "--force"]) == 0


@pytest.mark.usefixtures("coupled")
def test_calibrate_runs_smc(capsys):
    smc = "{start: prior, particles: 40, conditional_ess: 0.5, entry_moves: 1, block_moves: 1}"
    Path("config.yaml").write_text(f"posteriors: {{smc: {smc}}}\n", encoding="utf-8")
    command = ["calibrate", "--config", "config.yaml", "--simulator", "coupled", "--output", "out", "--format", "png"]
    assert main([*command, "--engine", "smc", "--runs", "100", "--observations", "2", "--min-ess", "2"]) == 0
    assert "of 2 posteriors are usable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ic"], "give its folder with --network"),
        (["--engine", "smc"], "give its folder with --network"),
        (["--engine", "rmh", "--runs", "1"], "Raise --runs"),
        (["--engine", "importance", "--runs", "9", "--categorical", "z"], "no such quantity; there are up, x"),
        (["--engine", "importance", "--runs", "9", "--categorical", "x"], "expected whole numbers"),
    ],
)
@pytest.mark.usefixtures("coupled")
def test_calibrate_says_what_is_missing(options, message, capsys):
    assert main(["calibrate", "--config", "config.yaml", "--simulator", "coupled", "--output", "out", *options]) == 1
    assert message in capsys.readouterr().err
