# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trainings of the experiments, and the figures and tables of the paper that are made from them."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from example_traces import ExampleTraces, make_example_traces
from synthetic_batches import SMALL

from etalumis.cli import main
from etalumis.config import Config, NetworkConfig, TrainingConfig, from_mapping, load, to_yaml
from etalumis.errors import ConfigError
from etalumis.experiments import (
    figure3,
    figure5,
    learning,
    paper_tables,
    parameter_counts,
    statements,
    sub_minibatches,
    variants,
)
from etalumis.experiments.entry_densities import densities_at, entries_along, shown
from etalumis.experiments.machine import Machine
from etalumis.experiments.parameter_counts import CONTINUOUS, AddressKind
from etalumis.experiments.rank_timings import RankTimings
from etalumis.experiments.training_record import TrainingRecord
from etalumis.layers import LayerRow, LayerTable, ObservationLayout
from etalumis.network import ProposalNetwork, checkpoint
from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.training.evaluate import log_proposals
from etalumis.training.history import read_history
from etalumis.training.phases import read_phases

GRID = ("stacks1-hidden8-components2", "stacks2-hidden8-components2")
RATES = ("minibatch32-rate0.001", "minibatch32-rate0.01", "minibatch64-rate0.01")
OPTIMIZERS = ("adam-none", "adam-polynomial2", "adam_larc-multistep")
SEEDS = ("seed1", "seed2", "seed3")
TIMINGS = ("timing-minibatch8", "timing-minibatch32")
CONFIG = {
    "network": SMALL.model_dump() | {"mixture_components": 3},
    "training": {"warmup_iterations": 2, "learning_rate": 1e-2, "noise_ramp_share": 0.0},
    "traces": {"train": 256},
    "experiments": {
        "minibatch": 32,
        "lstm_layers": [1, 2],
        "lstm_hidden": [8],
        "mixture_components": [2],
        "grid_traces": 128,
        "minibatches": [32, 64],
        "learning_rates": [1e-3, 1e-2],
        "rate_traces": 128,
        "optimizer_traces": 128,
        "seeds": 3,
        "seed_traces": 256,
        "ranks": [1],
        "rank_batch_size": 16,
        "rank_iterations": 10,
        "paper_iterations": 4,
    },
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    return make_example_traces("branching", tmp_path_factory.mktemp("branching"), 256, 64)


@pytest.fixture(scope="module")
def trained(traces: ExampleTraces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings of the figures, by the command."""
    folder = tmp_path_factory.mktemp("trainings")
    (folder / "config.yaml").write_text(to_yaml(from_mapping(CONFIG)), encoding="utf-8")
    words = ["--config", str(folder / "config.yaml"), "--layers", str(traces.layers)]
    words += ["--train", str(traces.train), "--valid", str(traces.valid)]
    for name in (*GRID, *RATES, *OPTIMIZERS, *SEEDS, "ranks1", *TIMINGS, "paper-ranks1"):
        assert main(["experiments", "train", name, *words, "--output", str(folder / name)]) == 0
    return folder


def draw(figure: str, trained: Path, names: tuple[str, ...], output: Path) -> tuple[list[dict[str, str]], str]:
    """Draw a figure by the command; return the rows of its table, and its caption."""
    folders = [str(trained / name) for name in names]
    assert main(["experiments", figure, "--trainings", *folders, "--output", str(output)]) == 0
    (table,), (caption,) = output.glob("*.csv"), output.glob("*.md")
    assert table.with_suffix(".png").stat().st_size > 10_000
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), caption.read_text(encoding="utf-8")


def test_the_trainings_have_the_settings_of_the_paper(trained: Path) -> None:
    record = TrainingRecord.load(trained / "seed2")
    keys = record.training["hyperparameters"]
    assert (keys["optimizer"], keys["schedule"], record.minibatch) == ("adam_larc", "polynomial2", 32)
    assert record.training["traces"] == 256
    assert TrainingRecord.load(trained / GRID[1]).architecture["lstm_layers"] == 2


def test_figure_5_has_the_mean_and_the_scatter_of_the_histories(trained: Path, tmp_path: Path) -> None:
    rows, caption = draw("figure5", trained, SEEDS, tmp_path)
    histories = [read_history(trained / name / "history.csv") for name in SEEDS]
    for loss in ("train_loss", "valid_loss"):
        found = [row for row in rows if row["loss"] == loss]
        assert len(found) == len(histories[0]) > 5
        for place, row in enumerate(found):
            values = [getattr(history[place], loss) for history in histories]
            assert len(set(values)) == 3  # the seeds differ
            assert float(row["mean"]) == pytest.approx(sum(values) / 3)
            assert float(row["deviation"]) == pytest.approx(
                np.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2)
            )
            assert (float(row["lowest"]), float(row["highest"])) == (min(values), max(values))
            assert [float(row[name]) for name in SEEDS] == values
    assert "3 trainings with seeds 1, 2, 3," in caption
    for seed, history in enumerate(histories, 1):
        assert f"{history[-1].valid_loss:.3f} (seed {seed})" in caption
    assert "131,072 traces" in caption
    assert "Machine: " in caption


def with_gains(record: TrainingRecord, **gains: float) -> TrainingRecord:
    """Return a training whose named entries have gained some nats over their priors."""
    named = {name: {"loss": 2.0 - gain, "prior_loss": 2.0, "entries": 9} for name, gain in gains.items()}
    training = record.training | {"valid_by_name": named}
    return dataclasses.replace(record, manifest=record.manifest | {"training": training})


def test_captions_say_how_many_trainings_have_learned_from_the_observation(trained: Path) -> None:
    """The limit is that of figure 7, 0.1 nats of all named entries together."""
    record = TrainingRecord.load(trained / "seed1")
    good, bad = with_gains(record, px=0.06, py=0.05), with_gains(record, px=0.06, py=0.03)
    assert learning.named_gain(bad) == pytest.approx(0.09)
    one = learning.verdict([bad, good, bad])
    assert "1 of the 3 trainings has learned from the observation" in one
    assert "In the others the named entries gained at most 0.090 nats" in one
    assert learning.verdict([good, good]).startswith("All of the 2 trainings have learned")
    assert "gained at most" not in learning.verdict([good, good])
    assert "In all of them the named entries gained at most 0.090 nats" in learning.verdict([bad, bad])
    assert "not known whether" in learning.verdict([good, with_gains(record)])
    other = TrainingRecord.load(trained / "seed2")
    mixed = figure5.draw([good, with_gains(other, px=0.0)])
    alike = figure5.draw([bad, with_gains(other, px=0.0)])
    assert "the losses form two groups" in mixed.caption
    assert "standard deviation 0." not in mixed.caption
    losses = [each.history[-1].valid_loss for each in (record, other)]
    assert (
        f"Mean {sum(losses) / 2:.3f}, standard deviation {abs(losses[0] - losses[1]) / np.sqrt(2):.3f}."
        in alike.caption
    )


def test_figure_2_has_every_setting_with_its_losses(trained: Path, tmp_path: Path) -> None:
    rows, caption = draw("figure2", trained, GRID, tmp_path)
    for name, layers in zip(GRID, ("1", "2"), strict=True):
        found = [row for row in rows if row["lstm_layers"] == layers]
        history = read_history(trained / name / "history.csv")
        assert [float(row["valid_loss"]) for row in found] == [row.valid_loss for row in history]
        assert {int(row["parameters"]) for row in found} == {checkpoint.load(trained / name).parameter_count()}
    best = min(rows, key=lambda row: (row["traces"] != "128", float(row["valid_loss"])))
    assert f"Lowest: {best['lstm_layers']} stack" in caption


def test_learning_rates_are_compared_by_their_final_losses(trained: Path, tmp_path: Path) -> None:
    rows, caption = draw("learning_rates", trained, RATES[::-1], tmp_path)
    found = {(row["minibatch"], row["learning_rate"]): float(row["valid_loss"]) for row in rows}
    last = {name: read_history(trained / name / "history.csv")[-1] for name in RATES}
    assert found == {("32", "0.001"): last[RATES[0]].valid_loss, ("32", "0.01"): last[RATES[1]].valid_loss,
                     ("64", "0.01"): last[RATES[2]].valid_loss}  # fmt: skip
    assert [row["iterations"] for row in rows] == ["4", "4", "2"]
    best = min(RATES[:2], key=lambda name: last[name].valid_loss)
    assert f"- 32 traces: {last[best].valid_loss:.3f} nats per trace with {best.partition('rate')[2]}," in caption
    assert "optimizer adam_larc, schedule polynomial2, 128 traces" in caption
    assert "Seed 1. Machine: " in caption


def test_optimizers_and_schedules_are_compared(trained: Path, tmp_path: Path) -> None:
    rows, caption = draw("optimizers", trained, OPTIMIZERS, tmp_path)
    for name in OPTIMIZERS:
        optimizer, schedule = name.split("-")
        found = [row for row in rows if (row["optimizer"], row["schedule"]) == (optimizer, schedule)]
        history = read_history(trained / name / "history.csv")
        assert [float(row["valid_loss"]) for row in found] == [row.valid_loss for row in history]
        decays = history[-1].learning_rate < 0.5 * history[0].learning_rate
        assert decays == (schedule != "none")
    final = read_history(trained / "adam_larc-multistep" / "history.csv")[-1].valid_loss
    assert f"| adam_larc |  | {final:.3f} |  |" in caption


def test_trainings_that_differ_in_more_than_the_figure_shows_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(trained / name) for name in ("seed1", GRID[0])]
    assert main(["experiments", "figure5", "--trainings", *folders, "--output", str(tmp_path)]) == 1
    assert "expected trainings with the same iterations of validation" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert main(["experiments", "figure2", "--trainings", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    assert "no such training history" in capsys.readouterr().err


def test_the_names_of_the_trainings_cover_the_grid_and_each_has_settings() -> None:
    config = Config()
    names = variants.grid_names(config)
    assert len(set(names)) == 4 * 3 * 4
    rates, optimizers = variants.rate_names(config), variants.optimizer_names(config)
    assert (len(rates), len(optimizers)) == (3 * 4, 2 * 4)
    assert variants.timing_names(from_mapping(CONFIG)) == list(TIMINGS)
    assert rates[1] == "minibatch32-rate0.001"
    for name in [
        *names,
        *rates,
        *optimizers,
        *variants.seed_names(config),
        *variants.rank_names(config),
        *variants.timing_names(config),
        *variants.paper_rank_names(config),
    ]:
        settings = variants.settings_of(config, name)
        assert settings.training.tasks == variants.ranks_of(name)
        assert settings.training.max_traces is not None
        # a timing has the noise of the run's training; the others see little of it for longer
        own = config.training if variants.is_timed(name) else config.experiments
        assert settings.training.noise_ramp_share == own.noise_ramp_share
    slow = variants.settings_of(from_mapping({"experiments": {"learning_rates": [1e-7]}}), "minibatch32-rate1e-07")
    assert (slow.training.learning_rate, slow.training.learning_rate_end) == (1e-7, 1e-7)
    assert variants.settings_of(config, "paper-ranks2").network == NetworkConfig()


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("seeds1", {}, "'seeds1' names no training; expected a name such as stacks1-hidden128-components5"),
        ("seed1", {"traces": {"train": 50}}, "experiments.minibatch: training seed1 needs 64 training traces"),
        ("ranks9", {"traces": {"train": 100}}, "experiments.rank_batch_size: training ranks9 needs 576"),
    ],
)
def test_a_training_that_cannot_be_is_refused(name: str, changes: dict[str, dict[str, int]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        variants.settings_of(from_mapping(changes), name)


def test_entries_along_a_trace_have_the_densities_of_the_network(traces: ExampleTraces, trained: Path) -> None:
    """The sum of the log densities is that of a minibatch, and the densities of an entry integrate to 1."""
    network = checkpoint.load(trained / "seed1")
    dataset = TraceDataset(traces.valid, network.layers)
    for index in (0, len(dataset) - 1):
        batch, trace = dataset.batch(np.array([index]), (1,)), dataset.trace(index)
        entries = entries_along(network, batch.observation[0], trace)
        assert sum(entry.log_proposal for entry in entries) == pytest.approx(
            log_proposals(network, batch).sum(), abs=1e-3
        )
        assert sum(entry.log_prior for entry in entries) == pytest.approx(trace.log_prior)
        for number, entry in enumerate(entries):
            density = densities_at(network, batch.observation[0], trace, number)
            step = 1.0 if density.discrete else density.values[1] - density.values[0]
            assert density.proposal.sum() * step == pytest.approx(1.0, abs=0.02)
            nearest = np.abs(density.values - entry.value).argmin()
            assert np.log(density.proposal[nearest]) == pytest.approx(entry.log_proposal, abs=0.2)


def test_a_figure_shows_the_first_entries_and_the_last_three() -> None:
    assert shown(3, 7) == [0, 1, 2]
    assert shown(10, 7) == [0, 1, 2, 3, 7, 8, 9]


def test_the_caption_of_figure_3_says_which_tags_the_network_sees_and_units_are_those_of_the_tau_decay() -> None:
    assert figure3.tags_in_words({}) == ""
    words = figure3.tags_in_words({"visible_at_rest": ("px", "py")})
    assert words == ", the tag visible_at_rest of the trace (only for px, py)"
    tau = ("momentum", "energies", "channel", "missing_et", "visible_at_rest")
    assert figure3.units_of(tau)["px"] == "GeV"
    assert "channel" not in figure3.units_of(tau)
    assert figure3.units_of(("momentum", "channel")) == {}


def test_the_counted_parameters_are_those_of_a_network() -> None:
    config = NetworkConfig(
        lstm_layers=2, lstm_hidden=12, mixture_components=3, value_frequencies=1, conv_channels=(2,) * 5
    )
    kinds = [("Uniform", 0), ("Uniform", 0), ("Categorical", 4), ("Categorical", 7)]
    rows = [LayerRow(f"a__{kind}__{n}", "", kind, categories, 1) for n, (kind, categories) in enumerate(kinds)]
    table = LayerTable(rows, [ObservationLayout("image", parameter_counts.VOXELS, 1.0)])
    counted = parameter_counts.count(config, {CONTINUOUS: 2, AddressKind(4): 1, AddressKind(7): 1})
    assert counted == ProposalNetwork(table, config).parameter_count()


@pytest.mark.parametrize("parameters", parameter_counts.PAPER_COUNTS.values())
def test_the_number_of_addresses_reproduces_the_parameters_of_the_paper(parameters: int) -> None:
    found = parameter_counts.nearest(NetworkConfig(), parameters)
    counted = parameter_counts.count(NetworkConfig(), {CONTINUOUS: found.continuous})
    assert counted + found.missing == parameters
    one = parameter_counts.count(NetworkConfig(), {CONTINUOUS: found.continuous + 1}) - counted
    assert 2 * abs(found.missing) <= one


def test_paper_yaml_has_the_numbers_of_the_paper(checkout: Path) -> None:
    config = load(checkout / "config" / "paper.yaml")
    training, posteriors = config.training, config.posteriors
    assert config.traces.train == config.traces.jobs * config.traces.shard_traces == 15_000_000
    assert training.tasks * training.batch_size == 131_072
    assert training.max_traces == 12 * config.traces.train
    assert (training.learning_rate, training.learning_rate_end) == (5.7e-4, 2e-5)
    assert (training.optimizer, training.schedule) == ("adam_larc", "polynomial2")
    assert posteriors.rmh.chains * posteriors.rmh.runs == 7_680_000
    assert posteriors.ic.jobs * posteriors.ic.runs == 2_000_000
    assert config.network == NetworkConfig(dtype=config.network.dtype)  # the defaults are the paper's


def test_paper_yaml_has_every_key_of_the_training_that_affects_its_result(checkout: Path) -> None:
    """A new key has to be written into the file, or to be listed here."""
    written = yaml.safe_load((checkout / "config" / "paper.yaml").read_text(encoding="utf-8"))["training"]
    speed = {"threads_per_task", "device", "prefetch", "gradient_sum", "checkpoint_minutes", "tensorboard"}
    of_other_choices = {"momentum", "milestones", "buckets", "online_layers"}
    assert {"sgd", "sgd_larc", "multistep", "buckets"} & {
        written[key] for key in ("optimizer", "schedule", "sampler")
    } == set()
    assert set(TrainingConfig.model_fields) - speed - of_other_choices <= set(written)


def test_figures_and_tables_of_measured_phases_are_drawn(
    traces: ExampleTraces, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, caption = draw("figure4", trained, ("ranks1",), tmp_path / "4")
    times = {(row["time"], row["phase"]): float(row["ms_per_iteration"]) for row in rows}
    # one rank has no imbalance
    assert all(times["actual", phase] == pytest.approx(times["best", phase]) for _, phase in times)
    assert "0.0 %" in caption
    words = ["--config", str(trained / "config.yaml"), "--train", str(traces.train), "--layers", str(traces.layers)]
    output = ["--trainings", str(trained / "ranks1"), "--output", str(tmp_path / "6")]
    assert main(["experiments", "figure6", *words, *output, "--sizes", str(trained / "ranks1")]) == 1
    assert "minibatches of several sizes" in capsys.readouterr().err
    output += ["--sizes", *(str(trained / name) for name in TIMINGS)]
    assert main(["experiments", "figure6", *words, *output]) == 0
    with (tmp_path / "6" / "figure6_scaling.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    ends = {row["minibatches"] for row in table if row["ranks"] == "2048"}
    assert ends == {"shuffled", "sorted_chunks", "buckets", "balanced"}
    (measured,) = [row for row in table if row["kind"] == "measured"]
    assert (measured["ranks"], float(measured["efficiency"])) == ("1", 1.0)


def test_statements_need_gradients_of_several_ranks(
    traces: ExampleTraces, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(trained / "config.yaml"), "--layers", str(traces.layers), "--train", str(traces.train)]
    words += ["--network", str(trained / "ranks1"), "--diagnostics", str(tmp_path / "none"), "--output", str(tmp_path)]
    assert main(["experiments", "statements", *words]) == 1
    assert "expected at least 2 ranks" in capsys.readouterr().err


def test_each_sub_minibatch_has_one_trace_type(traces: ExampleTraces, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = LayerTable.load(traces.layers)
    passes: list[tuple[int, int]] = []  # traces, and numbers of entries that they have

    def count(network: ProposalNetwork, plan: MinibatchPlan, observation: np.ndarray) -> None:
        passes.append((len(observation), len(np.unique(np.bincount(plan.trace.numpy())))))

    monkeypatch.setattr(sub_minibatches, "_pass", count)
    rates = sub_minibatches.measure(ProposalNetwork(layers, SMALL), TraceDataset(traces.train, layers), 64, 1)
    assert 2.0 <= rates.types <= 10.0
    last = passes[-(2 + int(rates.types)) :]  # of the round that counts
    assert last[0] == (64, 1)
    assert sum(traces for traces, _ in last[1:-1]) == 64
    assert {lengths for _, lengths in last[1:-1]} == {1}
    assert last[-1][0] == 64
    assert last[-1][1] > 1


def test_statements_are_beside_those_of_the_paper(trained: Path) -> None:
    rates = sub_minibatches.SubMinibatchRates(one_type=600.0, by_type=100.0, together=450.0, types=20.4)
    sums = {"sync_all_tables_over_fused": 2.6, "sync_per_tensor_over_fused": 6.8}
    phases = read_phases(trained / "ranks1" / "phases.h5")
    share = phases.seconds["read"].sum() / sum(each.sum() for each in phases.seconds.values())
    rate = {"ic": 3.0, "rmh": 0.15}
    engines = {name: {"cost": {"ess_per_core_s": each}, "info": {"seed": 7}} for name, each in rate.items()}
    checks = [{"engine": "ic", "subject": "weights", "passed": True}]
    checks.append({"engine": "rmh", "subject": "convergence", "passed": True})
    machine = Machine.load_from(trained / "ranks1")
    diagnostics = {"engines": engines, "checks": checks}
    text, rows = statements.table(rates, sums, 2, phases, diagnostics, machine)
    assert [row["value"] for row in rows] == pytest.approx([6.0, 4.5, share, 2.6, 6.8, 20.0])
    assert "sub-minibatches of 20 types: 6.0 times as fast" in text
    assert "IC 3, RMH 0.15 effective draws per core-second: 20 times as many" in text
    assert "smallest of all quantities; seed 7)" in text
    assert "not to be relied on" not in text
    checks[1]["passed"] = False
    text, _ = statements.table(rates, sums, 2, phases, diagnostics, machine)
    assert "seed 7); not to be relied on, since RMH did not pass" in text
    text, rows = statements.table(rates, sums, 2, None, {"engines": {"ic": engines["ic"]}}, machine)
    assert "this network has no record of it" in text
    assert "this run does not have both engines" in text


def test_tables_of_trainings_on_a_gpu_name_it_and_no_share_of_the_peak_of_a_core(trained: Path) -> None:
    timings = RankTimings.load(trained / "paper-ranks1")
    assert timings.record.gpu is None
    about = timings.record.training | {"device": "cuda", "processor": "NVIDIA X"}
    record = dataclasses.replace(timings.record, manifest=timings.record.manifest | {"training": about})
    on_gpu = [dataclasses.replace(timings, record=record)]
    text, rows = paper_tables.table2(on_gpu, 100.0)
    assert rows[-1]["percent_of_peak"] == ""
    assert f"| {on_gpu[0].gflops:.0f} |" in text
    assert "Machine: trained on NVIDIA X" in text
    assert [row["model"] for row in paper_tables.table1(on_gpu)[1][-2:]] == ["NVIDIA X", record.machine.cpu]
    _, rows = paper_tables.table2([timings], 100.0)
    assert rows[-1]["percent_of_peak"] == pytest.approx(timings.gflops, abs=0.06)


def test_table_2_has_this_machine_beside_those_of_the_paper(trained: Path, tmp_path: Path) -> None:
    words = ["--trainings", str(trained / "paper-ranks1"), "--output", str(tmp_path)]
    assert main(["experiments", "tables", *words]) == 0
    with (tmp_path / "table2_throughput.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (own,) = [row for row in rows if row["platform"] == "this machine"]
    assert float(own["traces_per_s"]) > 0
    assert float(own["gflops_per_rank"]) > 0
    assert [row["traces_per_s"] for row in rows if row["platform"] == "HSW (Cori)"] == ["32.1", "56.5"]
    assert "171,732,688" in (tmp_path / "parameters.md").read_text(encoding="utf-8")
