# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench`: its report, not the speed. The programs are real, the times very short."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from example_traces import make_example_traces
from synthetic_batches import SMALL
from synthetic_posteriors import posterior_of

from etalumis.bench import dataset, finished, ppx, traces, train
from etalumis.bench.cores import pinned
from etalumis.bench.measure import MIN_ROUNDS, BenchReport, Slice, Target, repeat, take_turns
from etalumis.bench.programs import Measurer, examples_folder, line_of
from etalumis.cli import main
from etalumis.config import from_mapping, to_yaml
from etalumis.diagnostics import diagnose
from etalumis.errors import DatasetError, SimulatorError

PPX_KEYS = {
    "raw_round_trips_per_s", "interactive_samples_per_s", "interactive_ratio", "local_traces_per_s",
    "delegated_traces_per_s", "delegated_ratio", "rmh_steps_per_s", "rmh_ratio", "workers_start_s", "workers_pss_mb",
}  # fmt: skip
TRACES_KEYS = {
    "sherpa_events_per_s", "sherpa_delegated_traces_per_s", "sherpa_ratio", "calorimeter_ratio", "address_cost_ratio",
    "full_traces_per_s_per_core",
}  # fmt: skip


DATASET_KEYS = {
    "bytes_per_trace", "write_share", "sequential_traces_per_s", "random_over_sequential", "sort_over_copy",
    "peak_rss_mb_100k", "peak_rss_mb_1m", "sequential_over_public_peer", "growth_bytes_per_trace",
}  # fmt: skip


MAY_BE_NEGATIVE = ("growth_bytes_per_trace", "overlap_share")
"""Differences of two measurements, which a short one leaves to chance."""


def check(found, expected_keys, bench):
    """Check keys, types and signs, and that every ratio is the quotient of its two values."""
    assert expected_keys <= found.keys()
    numbers = {key: value for key, value in found.items() if isinstance(value, float)}
    assert expected_keys <= numbers.keys()
    assert all(value > 0.0 for key, value in numbers.items() if key not in MAY_BE_NEGATIVE)
    for key, (above, below) in bench.RATIOS.items():
        assert found[key] == pytest.approx(found[above] / found[below])
    rounds = found["measured"]["rounds"]
    assert rounds >= MIN_ROUNDS
    for key, of_rounds in found["rounds"].items():
        assert len(of_rounds["values"]) == rounds
        assert min(of_rounds["values"]) <= of_rounds["median"] <= of_rounds["best"] == max(of_rounds["values"])
        if key in bench.PINNING:
            assert found[key] == of_rounds["best"]
    assert found["targets"].keys() == bench.TARGETS.keys() <= expected_keys
    for key, target in bench.TARGETS.items():
        assert found["targets"][key]["reached"] == target.reached(found[key])
    assert set(found["measured"]["cores_used"]) <= os.sched_getaffinity(0)


@pytest.fixture(scope="module")
def ppx_report(cpp_examples: Path) -> BenchReport:
    return ppx.bench(0.1, cpp_examples)


def test_the_protocol_is_measured(ppx_report: BenchReport):
    check(json.loads(json.dumps(ppx_report.as_json())), PPX_KEYS, ppx)


def test_the_raw_messages_are_as_long_as_those_of_a_draw(cpp_examples: Path, ppx_report: BenchReport):
    sizes = ppx.message_sizes(str(cpp_examples / "hundred"))
    assert sizes == ppx.message_sizes(str(cpp_examples / "hundred"))
    # a Sample has an address (a call stack) and two parameters, its answer a double
    assert 100 < sizes.sample < 1000
    assert 16 < sizes.sample_result < sizes.sample
    measured = ppx_report.as_json()["measured"]
    assert (measured["sample_bytes"], measured["sample_result_bytes"]) == sizes


def test_the_table_shows_every_key_and_verdict(ppx_report: BenchReport):
    lines = {line.split()[0]: line for line in ppx_report.table().splitlines() if line}
    assert lines.keys() >= PPX_KEYS
    for key, target in ppx.TARGETS.items():
        verdict = "yes" if target.reached(ppx_report.value(key)) else "NO"
        assert lines[key].endswith(f"{target}: {verdict}")


def test_traces_are_measured_from_the_command_line(
    sherpa_simulator: Path, cpp_examples: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--config", "config/test.yaml", "--seconds", "0.1", "--simulator-examples", str(cpp_examples)]
    assert main(["bench", "traces", "--json", "--simulator", str(sherpa_simulator), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    check(found, TRACES_KEYS, traces)
    # Sherpa alone and the delegated one make the same decays: 262 draws with a standard deviation of 916
    draws, events = found["measured"]["draws_per_event_of"], found["measured"]["events"]
    for one, other in itertools.combinations(traces.PHYSICS, 2):
        error = 916.0 * (1.0 / events[one] + 1.0 / events[other]) ** 0.5
        # Sherpa alone makes up to 10 % more draws, because it keeps raised maxima
        assert abs(draws[one] - draws[other]) < 5.0 * error + 0.1 * draws[other]
    assert found["address_cost_ratio"] == max(found["measured"]["address_cost"]["ratio"])
    assert found["deposit_ratio"] < found["calorimeter_ratio"]  # a part of it


def test_trace_files_are_measured_from_the_command_line(
    sherpa_simulator: Path, cpp_examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--config", "config/test.yaml", "--seconds", "0.1", "--simulator-examples", str(cpp_examples)]
    scale = ["--traces", "2000", "--folder", str(tmp_path)]
    assert main(["bench", "dataset", "--json", "--simulator", str(sherpa_simulator), *arguments, *scale]) == 0
    found = json.loads(capsys.readouterr().out)
    check(found, DATASET_KEYS, dataset)
    measured = found["measured"]
    assert measured["traces_of"] == {"real": 64, "small": 200, "large": 2000}
    large = measured["steps"]["large"]
    assert found["sort_over_copy"] == pytest.approx(large["sort"]["seconds"] / large["copy"]["seconds"])
    assert found["peak_rss_mb_1m"] == max(large[step]["peak_rss_mb"] for step in dataset.RESIDENT)
    # a sparse image of some hundred voxels, some twenty entries, and the tables of a small file
    assert 1_000 < found["bytes_per_trace"] < 20_000
    assert 0.0 < found["write_share"] < 1.0
    assert list(tmp_path.iterdir()) == []


def test_a_local_measurement_reports_its_runs(cpp_examples: Path):
    found = line_of([str(cpp_examples / "hundred"), "--measure", "0.02"])
    assert found["seconds"] >= 0.02
    assert found["draws"] == 100 * found["runs"] > 0
    assert found["addresses"] == 10  # call sites of the model
    mixed = line_of([str(cpp_examples / "branching"), "--measure", "0.02"])
    assert mixed["runs"] > 0


def test_contenders_alternate_in_alternating_order():
    order: list[str] = []

    def contender(name: str, rate: int):
        def work(seconds: float) -> Slice:
            order.append(name)
            return Slice(rate, 0, 1.0)

        return work

    slices = take_turns({"a": contender("a", 3), "b": contender("b", 2)}, [("a", "b")], 0.0)
    assert order == [*"ab", *("abba" * MIN_ROUNDS)[: 2 * MIN_ROUNDS]]  # the first two to warm up
    assert slices == {"a": [Slice(3, 0, 1.0)] * MIN_ROUNDS, "b": [Slice(2, 0, 1.0)] * MIN_ROUNDS}


def test_noisy_rounds_continue_until_the_time_is_over_and_precise_ones_do_not():
    noise = itertools.cycle([1.0, 1.5, 0.7, 1.2])
    for noisy in (True, False):
        contenders = {
            "a": lambda seconds, noisy=noisy: Slice(1000, 0, next(noise) if noisy else 1.0),
            "b": lambda seconds: Slice(1000, 0, 1.0),
        }
        rounds = len(take_turns(contenders, [("a", "b")], 0.05)["a"])
        assert (rounds > MIN_ROUNDS) is noisy


def test_values_are_those_of_the_best_rounds():
    report = BenchReport(
        "title", {"a": [1.0, 4.0, 3.0], "b": [2.0, 2.0, 1.0]}, {"a_ratio": ("a", "b")},
        {"a_ratio": Target(2.0), "cost": Target(5.0, at_least=False)}, {"a": "here", "b": "there"}, {"cost": 5.0},
    )  # fmt: skip
    found = report.as_json()
    assert (found["a"], found["b"], found["a_ratio"], found["cost"]) == (4.0, 2.0, 2.0, 5.0)
    assert found["rounds"]["a_ratio"] == {"median": 2.0, "best": 3.0, "values": [0.5, 2.0, 3.0]}
    assert [found["targets"][key]["reached"] for key in ("a_ratio", "cost")] == [True, False]


def test_a_step_is_repeated_until_the_time_is_over():
    steps = itertools.count()
    done = repeat(lambda: (2, 2 * (next(steps) + 1)), 0.0)
    assert done[:2] == (2, 2)
    assert repeat(lambda: (1, 0), 0.01).seconds >= 0.01


def test_pinning_is_undone():
    before = os.sched_getaffinity(0)
    with pinned() as cores:
        assert os.sched_getaffinity(0) == {cores[0]}
        assert set(cores) <= before
        assert len(set(cores)) == len(cores) == min(2, len(before))
    assert os.sched_getaffinity(0) == before


def test_missing_and_failing_programs_are_named(tmp_path: Path, cpp_examples: Path):
    with pytest.raises(SimulatorError, match="hundred, ping is missing"):
        examples_folder(tmp_path, ppx.PROGRAMS)
    with pytest.raises(SimulatorError, match=r"expected a line of JSON, found exit code 2 .*--measure expects seconds"):
        line_of([str(cpp_examples / "hundred"), "--measure", "soon"])
    with (
        Measurer([str(cpp_examples / "ping")]) as program,
        pytest.raises(SimulatorError, match="ended with exit code 2"),
    ):
        program.measure("bare", 0.1)


def test_figures_of_a_finished_run(tmp_path):
    """ESS, R-hat and k-hat as in the diagnostics, shares as in the table."""
    rng = np.random.default_rng(1)
    values = {"x": rng.standard_normal(400)}
    chains = posterior_of(values, wall_s=8.0)
    weights = posterior_of(values, "ic", 1, rng.standard_normal(400), wall_s=4.0)
    result = diagnose([chains, weights])
    found = finished.of_diagnostics(result)
    assert found["rmh_rhat"] == result["engines"]["rmh"]["quantities"]["x"]["rhat"]
    assert found["rmh_ess_per_core_s"] == pytest.approx(found["rmh_ess"] / 8.0)
    assert found["ic_ess"] == pytest.approx(weights.weight.sum() ** 2 / np.sum(weights.weight**2))
    assert {"ic_khat", "ic_ess_per_core_s"} <= found.keys()
    assert "train_valid_loss" not in found
    table = tmp_path / "table.jsonl"
    no = "not reliable"
    attempts = [(10.0, 0.5, "reliable"), (2.0, 0.9, "reliable"), (1.0, "nan", no), (4.0, 0.6, no)]
    lines = [{"format": "x"}] + [
        {"status": status, "khat": final, "attempts": [{"ess": ess, "khat": khat, "runs": 100}]}
        for (ess, khat, status), final in zip(attempts, (0.5, 0.2, 0.3, 0.8), strict=True)
    ]
    table.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert finished.of_table(table) == {
        "heldout_observations": 4.0,
        "heldout_median_efficiency": 0.03,
        "heldout_khat_ok_share": 0.5,
        "heldout_repaired_share": 0.75,
        "heldout_reliable_share": 0.5,
    }
    table.write_text("{}", encoding="utf-8")
    with pytest.raises(DatasetError, match="no observation with a result"):
        finished.of_table(table)
    with pytest.raises(DatasetError, match="not a table"):
        finished.of_table(tmp_path / "none.jsonl")


TRAIN_KEYS = {
    "cnn_only_traces_per_s", "one_type_traces_per_s", "step_ratio", "mixed_traces_per_s", "mixed_ratio",
    "demo_traces_per_s", "fp32_traces_per_s", "bf16_ratio", "data_wait_share", "two_rank_efficiency",
    "sync_bytes_ratio", "sync_per_tensor_over_fused", "sync_all_tables_over_fused", "overlap_share",
    "sync_bf16_over_fused", "overlapped_over_blocking", "simulated_efficiency_1024",
}  # fmt: skip


def test_training_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Real trainings on one and on two ranks, of a tiny network."""
    made = make_example_traces("branching", tmp_path, 256, 16)
    network = SMALL.model_dump() | {"mixture_components": 3}
    config = from_mapping({"network": network, "training": {"warmup_iterations": 2}})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    words = ["bench", "train", "--config", tmp_path / "config.yaml", "--layers", made.layers, "--train", made.train]
    words += ["--valid", made.valid, "--batch-size", "8", "--seconds", "0.2", "--json"]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    check(found, TRAIN_KEYS, train)
    assert found["measured"]["gpu"] is None
    assert 1.0 < found["measured"]["types_in_a_mixed_minibatch"] <= 8.0
    # a byte for each layer, and nothing that no rank needs
    assert 1.0 < found["sync_bytes_ratio"] < 1.01
    assert 0.0 <= found["data_wait_share"] + found["sync_wait_share"] + found["sync_move_share"] < 1.0
