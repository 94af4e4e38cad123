# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Models and datasets that the tests of trace files share."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from etalumis import execution
from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution, Categorical, Normal, Uniform
from etalumis.models import FunctionModel, observe, rejection_scope, sample, tag
from etalumis.seeds import derive
from etalumis.trace import Trace
from etalumis.traces.format import Provenance
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.prior_runs import PriorRecording
from etalumis.traces.writer import open_shard

SHAPE = (4, 6, 5)
STDDEV = 0.25
RUN_SEED = 11


def detector() -> float:
    """A small detector: types of different lengths, a rejection scope, an uncontrolled draw, a sparse image."""
    channel = int(sample(Categorical((0.6, 0.3, 0.1)), name="channel"))
    kicks = [sample(Uniform(-1.0, 2.0)) for _ in range(channel + 1)]
    with rejection_scope() as scope:
        while True:
            x = sample(Uniform(0.0, 1.0))
            if sample(Uniform(0.0, 1.0)) <= x:
                break
            scope.repeat()
    sample(Normal(0.0, 1.0), control=False)
    px = sample(Uniform(-3.0, 3.0), name="px")
    image = np.zeros(SHAPE)
    image.reshape(-1)[[7 * channel + 3, 50 + channel, 119]] = x, px, sum(kicks)
    observe(ArrayDistribution(Normal.code, (image, np.asarray(STDDEV))), name="calorimeter")
    tag("channel", channel)
    tag("pair", [px, x])
    tag("particles", np.arange(3.0 * channel).reshape(channel, 3))
    return px


DETECTOR = FunctionModel(detector, "detector")
PROVENANCE = Provenance(model="detector", run_seed=RUN_SEED, split="train", config_digest="c0", simulator_build_id="b0")


def draw(model: execution.Model, index: int, addresses: AddressTable, run_seed: int = RUN_SEED) -> Trace:
    """Return the trace that `generate` writes as number `index` of the split "train"."""
    rng = np.random.Generator(np.random.PCG64(derive(run_seed, "traces/train", index)))
    return execution.run(model, PriorRecording(rng), addresses)


def part(folder: Path, number: int, count: int, total: int | None = None) -> Path:
    """Write one part of a run of the detector model."""
    path = folder / f"train-{number:03d}.h5"
    size = count if total is None else total
    generate(DETECTOR, path, replace(PROVENANCE, part=number), number * count, size)
    return path


class TraceWriter:
    """Write traces one by one: `add` them, then `close`, or use it as a context manager.

    Memory is bounded: after `flush_traces` traces the columns go to the file.
    """

    def __init__(self, path: Path, provenance: Provenance, flush_traces: int = 1000) -> None:
        self._flush_traces = flush_traces
        self._builder = BlockBuilder()
        self._opened = open_shard(path, provenance)
        self._writer = self._opened.__enter__()

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self._opened.__exit__(kind, error, None)

    def add(self, trace: Trace, seed: int, index: int) -> None:
        """Add one trace, with its seed and its number in the run."""
        self._builder.add(trace, seed, index)
        if len(self._builder) >= self._flush_traces:
            self._flush()

    def _flush(self) -> None:
        if len(self._builder):
            self._writer.append(self._builder.block())
        self._builder = BlockBuilder()

    def close(self) -> None:
        """Write the remaining traces and give the file its name."""
        self._flush()
        self._opened.__exit__(None, None, None)
