# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Training on two ranks gives the network of one rank; run by the command line and the venv's mpiexec."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from example_traces import ExampleTraces, make_example_traces
from synthetic_batches import SMALL

from etalumis.cli import main
from etalumis.config import from_mapping, to_yaml
from etalumis.network import checkpoint
from etalumis.training.history import read_history
from etalumis.training.phases import read_phases

MPIEXEC = [sys.executable, "-m", "etalumis.mpiexec"]


@pytest.fixture(scope="module")
def branching(tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    return make_example_traces("branching", tmp_path_factory.mktemp("branching"), 512, 101)


# steps in proportion to the gradients: Adam and a limit of their norm would hide a wrong factor of the sums
PLAIN_SGD = {"optimizer": "sgd", "gradient_clip": None, "learning_rate": 0.02}


def command(
    traces: ExampleTraces, output: Path, ranks: int, expected_ranks: int | None = None, **training: object
) -> list[str]:
    output.mkdir(parents=True)
    configure(output, **training)
    words = [*MPIEXEC, "-n", ranks, sys.executable, "-m", "etalumis", "network", "train"]
    words += ["--config", output / "config.yaml", "--layers", traces.layers, "--train", traces.train]
    words += ["--valid", traces.valid, "--output", output / "network", "--world-size", expected_ranks or ranks]
    return [str(word) for word in words]


def configure(output: Path, **training: object) -> None:
    defaults = {"learning_rate": 1e-3, "warmup_iterations": 2, "valid_every": 5}
    config = from_mapping({"network": SMALL.model_dump(), "training": defaults | training})
    (output / "config.yaml").write_text(to_yaml(config))


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def train_alone(words: list[str]) -> None:
    """Run a command of one rank in this process, which saves a start of PyTorch."""
    assert main(words[words.index("network") :]) == 0


SEVERAL = """
import json, sys
from etalumis.cli import main
sys.exit(next((code for words in json.loads(sys.argv[1]) if (code := main(words))), 0))
"""


@pytest.fixture(scope="module")
def on_two_ranks(
    branching: ExampleTraces, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Train twice on two ranks, then expect three; return folder and process. Each rank starts PyTorch once."""
    folder = tmp_path_factory.mktemp("two")
    commands = [
        command(branching, folder / "batch of 8", 2, batch_size=8, max_traces=320),
        command(branching, folder / "batch of 1", 2, batch_size=1, max_traces=40),
        command(branching, folder / "balanced", 2, batch_size=8, max_traces=960, sampler="balanced", **PLAIN_SGD),
        command(branching, folder / "blocking", 2, batch_size=8, max_traces=320, gradient_sum="blocking"),
        command(branching, folder / "bfloat16", 2, batch_size=8, max_traces=320, sum_dtype="bfloat16"),
        command(branching, folder / "wrong", 2, expected_ranks=3, batch_size=4, max_traces=40),
    ]
    calls = json.dumps([words[words.index("network") :] for words in commands])
    return folder, run([*MPIEXEC, "-n", "2", sys.executable, "-c", SEVERAL, calls])


@pytest.fixture
def two_ranks(on_two_ranks: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The folder of the trainings on two ranks."""
    folder, done = on_two_ranks
    for name in ("batch of 8", "batch of 1", "balanced", "blocking", "bfloat16"):
        assert (folder / name / "network" / "manifest.json").exists(), done.stderr
    return folder


def test_two_ranks_train_the_network_of_one(branching: ExampleTraces, tmp_path: Path, two_ranks: Path) -> None:
    """The global batch is the same set of traces, so only the order of float32 sums differs."""
    train_alone(command(branching, tmp_path / "1", 1, batch_size=16, max_traces=320))
    folders = tmp_path / "1" / "network", two_ranks / "batch of 8" / "network"
    one, two = (checkpoint.load(folder).state_dict() for folder in folders)
    start = checkpoint.load(folders[0])
    moved = max(float((value - one[name]).abs().max()) for name, value in two.items())
    assert moved < 2e-3  # 20 steps of Adam move a parameter by up to 1e-2
    assert start.parameter_count() == sum(value.numel() for name, value in two.items() if ".scales." not in name)
    first, second = (read_history(folder / "history.csv") for folder in folders)
    assert [row.iteration for row in first] == [row.iteration for row in second] == [1, 5, 10, 15, 20]
    for a, b in zip(first, second, strict=True):
        assert b.valid_loss == pytest.approx(a.valid_loss, abs=2e-3)
        assert b.train_loss == pytest.approx(a.train_loss, abs=2e-3)
        assert b.prior_loss == pytest.approx(a.prior_loss, rel=1e-12)


def test_ranks_whose_minibatches_share_no_address_agree(
    branching: ExampleTraces, tmp_path: Path, two_ranks: Path
) -> None:
    """With one trace per rank, often only one of the two ranks touches the second address."""
    train_alone(command(branching, tmp_path / "1", 1, batch_size=2, max_traces=40))
    folders = tmp_path / "1" / "network", two_ranks / "batch of 1" / "network"
    one, two = (checkpoint.load(folder).state_dict() for folder in folders)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-3)


def test_overlapped_and_blocking_sums_train_the_same_network(two_ranks: Path) -> None:
    one, two = (checkpoint.load(two_ranks / name / "network").state_dict() for name in ("batch of 8", "blocking"))
    for name, value in one.items():
        assert torch.equal(two[name], value), name


def test_sums_in_bfloat16_train_nearly_the_same_network(two_ranks: Path) -> None:
    """Gradients have 8 bits, so the weights differ, but by less than the steps of the training moved them."""
    one, two = (checkpoint.load(two_ranks / name / "network").state_dict() for name in ("batch of 8", "bfloat16"))
    differences = [float((two[name] - value).abs().max()) for name, value in one.items()]
    assert 0.0 < max(differences) < 5e-3
    histories = [read_history(two_ranks / name / "network" / "history.csv") for name in ("batch of 8", "bfloat16")]
    for a, b in zip(*histories, strict=True):
        assert b.valid_loss == pytest.approx(a.valid_loss, abs=2e-3)


def test_four_ranks_train_the_network_of_one(branching: ExampleTraces, tmp_path: Path) -> None:
    train_alone(command(branching, tmp_path / "1", 1, batch_size=16, max_traces=320, **PLAIN_SGD))
    done = run(command(branching, tmp_path / "4", 4, batch_size=4, max_traces=320, **PLAIN_SGD))
    assert done.returncode == 0, done.stderr
    one, four = (checkpoint.load(tmp_path / name / "network").state_dict() for name in ("1", "4"))
    for name, value in one.items():
        torch.testing.assert_close(four[name], value, rtol=1e-4, atol=1e-5)


def test_balanced_ranks_train_the_network_of_one(branching: ExampleTraces, tmp_path: Path, two_ranks: Path) -> None:
    """The ranks have different numbers of traces, first at random and then by measured costs."""
    train_alone(command(branching, tmp_path / "1", 1, batch_size=16, max_traces=960, **PLAIN_SGD))
    folders = tmp_path / "1" / "network", two_ranks / "balanced" / "network"
    one, two = (checkpoint.load(folder).state_dict() for folder in folders)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    # beside other programs, the fit of so short steps may find nothing but a fixed cost
    costs = checkpoint.read_manifest(folders[1] / "checkpoint")["training"]["state"]["costs"]
    assert set(costs) == {"fixed", "per_trace", "per_token", "per_row"}
    assert sum(costs.values()) > min(costs.values()) >= 0
    alone, shared = (read_phases(folder / "phases.h5") for folder in folders)
    np.testing.assert_array_equal(shared.iteration, np.arange(1, 61))
    assert shared.traces.shape == (60, 2)
    for name in ("traces", "tokens", "flops"):
        np.testing.assert_array_equal(getattr(shared, name).sum(axis=1), getattr(alone, name)[:, 0])
    assert (shared.traces[:40, 0] != shared.traces[:40, 1]).any()
    assert all((seconds >= 0).all() and seconds.any() for seconds in shared.seconds.values())


def test_a_wrong_number_of_ranks_is_an_error_on_all(
    on_two_ranks: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = on_two_ranks
    assert done.returncode != 0
    assert "expected 3 ranks (training.tasks), found 2" in done.stderr
    assert not (folder / "wrong" / "network" / "manifest.json").exists()


def test_sigterm_to_the_ranks_leaves_a_checkpoint_that_can_be_resumed(branching: ExampleTraces, tmp_path: Path) -> None:
    words = command(branching, tmp_path / "x", 2, batch_size=4, max_traces=10**9)
    folder = tmp_path / "x" / "network"
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as started:
        waited = time.monotonic() + 60
        while not (folder / "history.csv").exists() and time.monotonic() < waited:
            time.sleep(0.05)
        for rank in _ranks_below(started.pid):
            os.kill(rank, signal.SIGTERM)
        errors = started.communicate(timeout=60)[1]
    assert started.returncode == 143, errors
    assert not (folder / "manifest.json").exists()
    before = json.loads((folder / "checkpoint" / "manifest.json").read_text())["training"]["state"]["iteration"]
    configure(tmp_path / "x", batch_size=4, max_traces=8 * (before + 3))
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert f"resumes from iteration {before}" in done.stderr
    assert read_history(folder / "history.csv")[-1].iteration == before + 3


def _ranks_below(pid: int) -> list[int]:
    """Return the processes under `pid` that run etalumis."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        is_rank = arguments[0] == sys.executable.encode() and b"train" in arguments
        found += [int(child)] if is_rank else _ranks_below(int(child))
    return found
