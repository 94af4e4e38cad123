# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""docs/how-to-keep-a-trace-dataset.md: writes its files, runs its commands, and checks their results."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from etalumis.cli import _parse
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard
from etalumis.traces.sorting.sort import sort

PAGE = Path("docs/how-to-keep-a-trace-dataset.md")
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TRAIN, VALID = 120, 60
CONFIG = f"traces: {{train: {TRAIN}, valid: {VALID}, jobs: 2, shard_traces: 50}}\n"
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def page(checkout: Path) -> list[tuple[str, str, str]]:
    """Return language, file name and text of every block."""
    return [match.groups("") for match in BLOCK.finditer((checkout / PAGE).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def carried(page, sherpa_simulator: Path, tmp_path_factory) -> tuple[Path, str]:
    """The folder in which the commands of the page ran, and their output."""
    folder = tmp_path_factory.mktemp("dataset")
    run = folder / "results" / "demo"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG, encoding="utf-8")
    shutil.copytree(sherpa_simulator, run / "simulator", symlinks=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    configure = ["etalumis", "simulator", "config", "--config", run / "config.yaml", "--output", run / "simulator"]
    environment = {**os.environ, "PATH": path}
    subprocess.run(configure, env=environment, check=True, capture_output=True, timeout=TIMEOUT_S)
    script = []
    for language, name, text in page:
        if language == "sh":
            script.append(text)
        else:
            (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder, done.stdout


def test_every_command_is_understood(page):
    commands = [
        line.split("etalumis ", 1)[1].split(" > ")[0].replace("$part", "0").split()
        for language, _, text in page
        if language == "sh"
        for line in text.replace("\\\n", " ").splitlines()
        if "etalumis " in line
    ]
    assert len(commands) >= 11
    for words in commands:
        _parse(words)  # exits if a verb or an option is unknown
    assert {words[1] for words in commands} == {"generate", "info", "verify", "sort", "merge", "split", "convert"}


def test_the_sets_hold_the_traces(carried):
    folder, output = carried
    assert output.count("everything in order") == 2
    assert len(TraceDataset(folder / "results/demo/sorted/train")) == TRAIN
    larger = TraceDataset(folder / "larger")
    assert len(larger) == TRAIN + VALID
    parts = [TraceDataset(folder / "parts" / f"{name}.h5") for name in ("train", "valid", "test")]
    assert sorted(np.concatenate([part.column("seed") for part in parts])) == sorted(larger.column("seed"))
    content = json.loads((folder / "info.json").read_text())
    assert content["traces"] == TRAIN
    assert str(content["bytes_per_trace"]) in output
    assert (folder / "frequency.png").read_bytes()[:4] == b"\x89PNG"


def test_merging_gives_the_same_as_sorting_everything_at_once(carried, tmp_path):
    folder, _ = carried
    traces = folder / "results" / "demo" / "traces"
    sort(sorted(traces.glob("*.h5")), tmp_path / "at-once", 50)
    names = sorted(path.name for path in (folder / "larger").glob("shard-*.h5"))
    assert len(names) == 4
    for name in names:
        assert (folder / "larger" / name).read_bytes() == (tmp_path / "at-once" / name).read_bytes()


def test_the_reading_example_shows_the_content(carried):
    folder, output = carried
    stored = TraceDataset(folder / "parts" / "test.h5").trace(0)
    for address, name, value in zip(stored.addresses, stored.names, stored.values, strict=True):
        assert f"{address[-40:]} {name} {value} " in output
    assert "calorimeter (20, 35, 35) sum" in output
    assert str(stored.tags["momentum"].tolist()) in output


def test_the_foreign_set_was_converted_and_training_read_all_of_it(carried):
    folder, output = carried
    with Shard(folder / "foreign.h5") as shard:
        assert len(shard) == 100
        assert (shard.provenance.model, shard.provenance.split) == ("two_kinds", "train")
    count = len(TraceDataset(folder / "parts" / "train.h5"))
    assert f"{count} traces of" in output
    for epoch in range(2):
        assert f"epoch {epoch} last batch ({(count - 1) % 64 + 1}, 20, 35, 35)" in output
