# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sorted traces of an example model and their layer table, written by the real stages, for tests of training."""

from dataclasses import dataclass
from pathlib import Path

from etalumis import layers
from etalumis.execution import Model
from etalumis.models import examples
from etalumis.traces.format import Provenance
from etalumis.traces.recording.generate import generate
from etalumis.traces.sorting.sort import sort


@dataclass(frozen=True)
class ExampleTraces:
    """Paths of the files."""

    layers: Path
    train: Path
    valid: Path


def make_example_traces(name: str, folder: Path, train: int, valid: int, model: Model | None = None) -> ExampleTraces:
    """Generate and sort traces of an example model (`model`, or the Python one), and build its layer table."""
    for split, count in (("train", train), ("valid", valid)):
        provenance = Provenance("test", name, "config", "", 1, split, 0)
        generate(model or examples.model(name), folder / f"{split}.h5", provenance, 0, count)
        sort([folder / f"{split}.h5"], folder / "sorted" / split, 1000)
    table = layers.build([folder / "sorted" / "train"])
    table.save(folder / "layers.json")
    return ExampleTraces(folder / "layers.json", folder / "sorted" / "train", folder / "sorted" / "valid")
