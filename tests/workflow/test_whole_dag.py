# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The whole workflow at test scale, on real Sherpa: the products of every stage are opened and checked."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from projects import CONFIG, Run

from etalumis.cli import main
from etalumis.config import load
from etalumis.diagnostics.files import read_diagnostics
from etalumis.diagnostics.headline import headline
from etalumis.diagnostics.quantities import TAU_DECAY
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.distributions import Categorical, Uniform
from etalumis.figures.particles import MOMENTUM, VISIBLE, of_truth, visible_flights
from etalumis.files import digest
from etalumis.inference.posterior import Posterior
from etalumis.layers import LayerTable
from etalumis.paths import FIGURES, SORTED_SPLITS, SPLITS, STAGES
from etalumis.provenance import chain
from etalumis.timings import stage_seconds
from etalumis.traces.checking import verify
from etalumis.traces.observation import load as load_observation
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.workflow import posterior_files, trace_files

VOXELS = (20, 35, 35)


def test_the_simulator_explains_its_options(run: Run, checkout: Path) -> None:
    command = "results/demo/simulator/bin/sherpa_tau --help"
    assert f"    {command}\n" in (checkout / "docs" / "tutorial.md").read_text(encoding="utf-8")
    words = command.replace("demo", "test").split()
    done = subprocess.run(words, cwd=run.project.root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_nothing_is_left_to_do(run: Run) -> None:
    done = run.snakemake("--dry-run")
    assert "Nothing to be done" in done.stdout, done.stdout


def test_traces(run: Run) -> None:
    counts = {}
    for split in SPLITS:
        files = trace_files(run.paths, run.config, split)
        verify.verify(files)
        data = TraceDataset(files)
        counts[split] = len(data)
        assert data.observation_shape == VOXELS
    assert counts == {split: getattr(run.config.traces, split) for split in SPLITS}


def test_a_trace_is_a_tau_decay(run: Run) -> None:
    data = TraceDataset(trace_files(run.paths, run.config, "test"))
    ranges = run.config.simulator.momentum_gev
    for index in range(len(data)):
        trace = data.trace(index)
        at = {name: place for place, name in enumerate(trace.names) if name}
        for name, bounds in (("px", ranges.px), ("py", ranges.py), ("pz", ranges.pz)):
            assert trace.distributions[at[name]] == Uniform(*bounds)
            assert bounds[0] <= trace.values[at[name]] < bounds[1]
        channel = trace.distributions[at["channel"]]
        assert isinstance(channel, Categorical)
        assert sum(channel.probs) == pytest.approx(1.0, abs=1e-9)
        momentum = [trace.by_name[name] for name in ("px", "py", "pz")]
        np.testing.assert_allclose(trace.tags["momentum"], momentum, rtol=1e-12)
        image = trace.expected["calorimeter"]
        assert image.shape == VOXELS
        assert np.all(image >= 0)
        # no more than the τ's energy can be seen (m_τ = 1.777 GeV)
        assert image.sum() <= np.hypot(np.linalg.norm(momentum), 1.777) * 1.001


def test_the_visible_particles_of_a_draw_are_where_those_of_its_trace_are(run: Run) -> None:
    """The event display has them from their momentum at rest, the traces from the simulator."""
    data, compared = TraceDataset(trace_files(run.paths, run.config, "train")), 0
    for index in range(len(data)):
        tags = data.trace(index).tags
        seen = [particle for particle in of_truth(tags) if particle.visible]
        if len(seen) == 1 and seen[0].energy > 1.0:
            compared += 1
            (found,) = visible_flights({name: np.array([tags[name]]) for name in (MOMENTUM, VISIBLE)}, 150.0)
            np.testing.assert_allclose(found[np.isfinite(found[:, 0])], [seen[0].at(150.0)], rtol=1e-4, atol=1e-4)
    assert compared > 20


def test_most_decays_are_seen(run: Run) -> None:
    data = TraceDataset(trace_files(run.paths, run.config, "train"))
    seen = [data.trace(index).expected["calorimeter"].sum() > 0.1 for index in range(len(data))]
    # soft muons leave little, and wide decays miss the block
    assert np.mean(seen) > 0.85


def test_splits_share_no_trace(run: Run) -> None:
    seeds = [TraceDataset(trace_files(run.paths, run.config, split)).column("seed") for split in SPLITS]
    every = np.concatenate(seeds)
    assert len(np.unique(every)) == len(every)


@pytest.mark.parametrize("split", SORTED_SPLITS)
def test_sorting_keeps_every_trace(run: Run, split: str) -> None:
    before = TraceDataset(trace_files(run.paths, run.config, split))
    after = TraceDataset(run.paths.sorted_index(split))
    assert sorted(after.column("seed")) == sorted(before.column("seed"))
    assert np.array_equal(np.sort(after.column("log_prior")), np.sort(before.column("log_prior")))


def test_layers_cover_the_training_traces(run: Run) -> None:
    table = LayerTable.load(run.paths.layers)
    data = TraceDataset(run.paths.sorted_index("train"), layers=table)
    batch = data.batch(np.arange(len(data)), (1, 0))
    assert np.all(batch.layer >= 0)
    assert set(batch.layer.tolist()) == set(range(len(table.rows)))


def test_training(run: Run) -> None:
    with (run.paths.network / "history.csv").open(encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    train, valid, prior = (
        np.array([float(row[name]) for row in history]) for name in ("train_loss", "valid_loss", "prior_loss")
    )
    assert np.isfinite(train).all()
    assert np.isfinite(valid).any()
    # -log q of a proposal that knows nothing is near that of the prior: tens of nats off is a bug, not bad luck
    assert np.all(np.abs(train - prior) < 30)
    assert int(history[-1]["traces"]) >= (run.config.training.max_traces or 0)
    # seconds of training at a rate that warms up: falling is what can be asked for
    assert train[-1] < train[0]


def test_observation_is_a_held_out_trace_with_noise(run: Run) -> None:
    observation = load_observation(run.paths.observation).observed["calorimeter"]
    trace = TraceDataset(trace_files(run.paths, run.config, "test")).trace(run.config.observation.trace)
    np.testing.assert_allclose(observation.expected, trace.expected["calorimeter"], atol=1e-6)
    noise = (observation.value - observation.expected).ravel()
    sigma, size = run.config.simulator.noise_gev, noise.size
    # mean and variance of 24,500 normal draws, each within 5 standard errors
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(size)
    assert abs(noise.std() / sigma - 1) < 5 / np.sqrt(2 * size)


@pytest.mark.parametrize("engine", ["rmh", "network_rmh", "ic", "smc"])
def test_posteriors(run: Run, engine: str) -> None:
    assert engine in run.config.posteriors.engines
    posterior = Posterior.load(run.paths.posterior(engine))
    parts = posterior_files(run.paths, run.config, engine)
    draws = len(posterior.log_weight)
    assert draws == sum(len(Posterior.load(part).log_weight) for part in parts) > 0
    assert len(np.unique(posterior.chain)) == len(parts)
    ranges = run.config.simulator.momentum_gev
    for name, (low, high) in (("px", ranges.px), ("py", ranges.py), ("pz", ranges.pz)):
        values = posterior.values[name]
        assert values.shape == (draws,)
        assert np.all((values >= low) & (values <= high))
        assert len(np.unique(values)) > 10
    energies = posterior.values["energies"]
    assert energies.shape == (draws, 2)
    assert np.all(energies[:, 0] >= energies[:, 1])
    assert not np.isnan(posterior.log_weight).any()
    assert np.isfinite(posterior.log_weight).any()
    assert set(posterior.truth) >= {"momentum", "channel"}


def test_many_observations(run: Run) -> None:
    for _ in range(2):  # the second call has nothing to do
        done = run.snakemake("--cores", "2", "infer")
        assert done.returncode == 0, done.stdout[-3000:]
    assert "Nothing to be done" in done.stdout
    with run.paths.inference_table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    data = TraceDataset(trace_files(run.paths, run.config, "test"))
    assert [row["id"] for row in rows] == [f"trace-{trace:06d}" for trace in range(3)]
    for trace, row in enumerate(rows):
        assert row["status"] in ("reliable", "not reliable")
        assert int(row["runs"]) == run.config.posteriors.ic.runs
        assert float(row["px truth"]) == pytest.approx(data.trace(trace).by_name["px"], rel=1e-5)
        assert row["P(px > 0 and channel in {1, 2}) >= 0.5"] in ("yes", "no")


def test_the_engines_score_the_same_likelihood(run: Run) -> None:
    """The likelihood of the truth's own image is about what the engines reach at best: same data, same density."""
    best = {
        engine: Posterior.load(run.paths.posterior(engine)).log_likelihood.max()
        for engine in run.config.posteriors.engines
    }
    sigma = run.config.simulator.noise_gev
    observation = load_observation(run.paths.observation).observed["calorimeter"]
    residual = (observation.value - observation.expected) / sigma
    truth = -0.5 * np.sum(residual**2) - residual.size * np.log(sigma * np.sqrt(2 * np.pi))
    # no sampler beats the truth by more than a fit of some ten latents to the noise can
    assert all(value < truth + 25 for value in best.values())
    # RMH climbs to where the likelihood is; a few hundred steps leave it some nats off
    assert best["rmh"] > truth - 100


def test_diagnostics(run: Run) -> None:
    report = json.loads(run.paths.diagnostics.read_text(encoding="utf-8"))
    assert set(report["engines"]) == set(run.config.posteriors.engines)
    assert len(report["checks"]) > 0
    assert all(check["sentence"] for check in report["checks"])
    keys = [quantity.key for quantity in TAU_DECAY]
    for engine in run.config.posteriors.engines:
        assert list(report["engines"][engine]["quantities"]) == keys
    for key in keys:
        summary = report["engines"]["rmh"]["quantities"][key]
        if key == "channel" and summary["constant"]:
            continue  # no chain ever left the channel, so there is neither; the verdicts name it
        # R-hat is infinite where each of the short chains stays in a channel of its own
        assert is_finite(summary["rhat"]) or (key, summary["rhat"]) == ("channel", "inf"), key
        assert is_finite(summary["ess"]), key
        assert is_finite(report["engines"]["ic"]["quantities"][key]["ess"]), key
    weights = report["engines"]["ic"]["weights"]
    assert 1 <= weights["ess"] <= weights["draws"]
    assert is_finite(weights["khat"])


def is_finite(number: object) -> bool:
    """Whether JSON has a number here: nan is null in it, infinity a text."""
    return isinstance(number, float | int)


@pytest.mark.parametrize("name", FIGURES)
def test_figures(run: Run, name: str) -> None:
    picture = matplotlib.image.imread(run.paths.figure(name))
    assert run.paths.figure(name, "pdf").read_bytes().startswith(b"%PDF")
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.01  # not blank
    assert len(run.paths.figure(name, "md").read_text(encoding="utf-8")) > 80


def test_every_stage_left_log_and_timing(run: Run) -> None:
    seconds = stage_seconds(run.paths)
    assert all(len(seconds[stage]) > 0 for stage in STAGES)
    assert all(any((run.paths.root / "logs" / stage).glob("*.log")) for stage in STAGES)


def test_the_report_is_one_page_with_every_figure(run: Run) -> None:
    done = run.snakemake("--report", "report.html", "--report-stylesheet", "workflow/report/style.css")
    assert done.returncode == 0, done.stdout
    page = (run.project.root / "report.html").read_text(encoding="utf-8")
    assert all(f"{name}.png" in page for name in FIGURES)
    # a caption that reStructuredText cannot read would leave this mark
    assert "system-message" not in page
    # the verdicts on the first screen, titles in words
    assert "reliable, ESS" in page
    assert all(entry.title in page for entry in FIGURES.values())


def test_the_last_lines_of_the_log_are_the_verdicts_and_where_to_read_on(run: Run) -> None:
    """`make report`, which prints what `make demo` prints at its end."""
    command = [sys.executable, "scripts/run_workflow.py", "--report-only", "--configfile", str(CONFIG)]
    done = subprocess.run(command, cwd=run.project.root, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    diagnostics = read_diagnostics(run.paths.diagnostics)
    _, _, result = done.stdout.partition("RESULT\n")
    assert result.startswith(f"{headline(diagnostics)[0]}\n")
    words = " ".join(result.split())
    for check in diagnostics["checks"]:
        assert f"{'ok' if check['passed'] else 'NOT'} {' '.join(check['sentence'].split())}" in words
    for engine in run.config.posteriors.engines:
        draws = len(Posterior.load(run.paths.posterior(engine)))
        assert re.search(rf"^{re.escape(ENGINE_NAMES[engine])} .*\b{draws:,}\b", result, re.MULTILINE), engine
    assert [stage for stage in STAGES if not re.search(rf"^{stage} +\d", result, re.MULTILINE)] == []
    for page in (run.paths.report, run.paths.workflow_report):
        assert page.resolve().as_uri() in result
        assert page.stat().st_size > 100_000


def test_every_product_says_where_it_comes_from(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.project.root)
    root = run.paths.root.relative_to(run.project.root)
    assert main(["explain", str(root / "report.html")]) == 0
    text = capsys.readouterr().out
    assert [stage for stage in STAGES if f"{root / stage}" not in text] == []
    assert "made by   etalumis simulator build" in text
    assert "nothing is missing, nothing was altered" in text.splitlines()[-1]
    page = run.paths.report.read_text(encoding="utf-8")
    assert "nothing is missing, nothing was altered" in page
    assert page.count("etalumis posteriors rmh --config") == run.config.posteriors.rmh.chains
    steps = chain.trace_back(root / "report.html")
    digests = {str(step.path): step.record["config_digest"] for step in steps if step.record is not None}
    expected = digest(run.config.model_dump(mode="json", by_alias=True, exclude={"simulator": {"prefix"}}))
    assert {path: found for path, found in digests.items() if found != expected} == {}


def test_the_resolved_configuration_is_kept(run: Run) -> None:
    assert load(run.paths.config) == run.config
