# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Networks that grow, on two ranks: the layers of one rank in the same order, and its network up to rounding."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import growing_model
import pytest
import torch
from synthetic_batches import SMALL

from etalumis.cli import main
from etalumis.config import from_mapping, to_yaml
from etalumis.layers import LayerTable
from etalumis.network import checkpoint
from etalumis.training.history import read_history

MPIEXEC = [sys.executable, "-m", "etalumis.mpiexec"]
SEVERAL = """
import json, sys
from etalumis.cli import main
sys.exit(next((code for words in json.loads(sys.argv[1]) if (code := main(words))), 0))
"""


def configure(folder: Path, name: str, **training: object) -> None:
    # the steps of Adam would not get smaller with gradients that are rounding errors
    defaults = {"optimizer": "sgd", "learning_rate": 1e-3, "warmup_iterations": 2, "valid_every": 5, "max_traces": 96}
    traces = {"train": 6, "valid": 32, "test": 1, "jobs": 1}
    config = from_mapping({"traces": traces, "network": SMALL.model_dump(), "training": defaults | training})
    (folder / f"{name}.yaml").write_text(to_yaml(config))


def online(layers: str, ranks: int) -> list[str]:
    name = f"{layers}-{ranks}"
    words = ["network", "train", "--config", f"{name}.yaml", "--layers", "few.json", "--simulator", "simulator"]
    return [*words, "--valid", "sorted/valid", "--output", name, "--world-size", str(ranks)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A served model, its traces, a table that lacks the addresses of long walks, and a grown one."""
    folder = tmp_path_factory.mktemp("walks")
    shutil.copy(growing_model.__file__, folder / "walks.py")
    for layers in ("growing", "frozen"):
        configure(folder, f"{layers}-1", online_layers=layers, batch_size=8)
        configure(folder, f"{layers}-2", online_layers=layers, batch_size=4)
    words = ["-m", "etalumis", "serve", "walks:WALK", "{endpoint}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        lines = [["simulator", "couple", "--output", "simulator", "--runs", "5", "--", sys.executable, *words]]
        for split in ("train", "valid"):
            generate = ["traces", "generate", "--config", "growing-1.yaml", "--simulator", "simulator"]
            lines.append([*generate, "--split", split, "--output", f"traces/{split}.h5"])
            sort = ["traces", "sort", "--shard-traces", "99", "--input", f"traces/{split}.h5"]
            lines.append([*sort, "--output", f"sorted/{split}"])
        lines.append(["layers", "--input", "sorted/train", "--output", "few.json"])
        lines.append(["layers", "--input", "sorted/valid", "--grow", "few.json", "--output", "more.json"])
        for line in lines:
            assert main(line) == 0
        for line in (online("growing", 1), online("frozen", 1), trained_on(1)):
            assert main(line) == 0
    two = [online("growing", 2), online("frozen", 2), trained_on(2)]
    command = [*MPIEXEC, "-n", "2", sys.executable, "-c", SEVERAL, json.dumps(two)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def trained_on(ranks: int) -> list[str]:
    """Train the frozen network on, with stored traces and the grown table."""
    words = ["network", "train", "--config", f"growing-{ranks}.yaml", "--layers", "more.json"]
    words += ["--train", "sorted/valid", "--valid", "sorted/valid"]
    return [*words, "--start-from", "frozen-1", "--output", f"from-{ranks}"]


@pytest.mark.parametrize("kind", ["growing", "frozen", "from"])
def test_two_ranks_train_the_network_of_one(folder: Path, kind: str) -> None:
    """The rows and their initial values are the same, so only the order of float32 sums differs."""
    folders = folder / f"{kind}-1", folder / f"{kind}-2"
    one, two = (checkpoint.load(each) for each in folders)
    assert one.layers.rows == two.layers.rows
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    first, second = (read_history(each / "history.csv") for each in folders)
    for a, b in zip(first, second, strict=True):
        assert (a.iteration, a.traces, a.addresses, a.discarded) == (b.iteration, b.traces, b.addresses, b.discarded)
        assert b.valid_loss == pytest.approx(a.valid_loss, rel=1e-5)
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-5)
    known = len(LayerTable.load(folder / "few.json"))
    assert (len(one.layers) > known) == (kind != "frozen")
    assert (first[-1].discarded > 0) == (kind == "frozen")
    _, _, moments = checkpoint.load_training(folders[1] / "checkpoint")
    assert moments["steps"]["address"].shape == (len(one.layers),)
