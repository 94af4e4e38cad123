# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Synthetic traces, drawn with replacement from real ones, for measurements at scale."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from etalumis.progress import Progress
from etalumis.seeds import derive
from etalumis.traces.reading.shard import Shard
from etalumis.traces.writer import ROW_GROUP, open_shard

FILE_TRACES = 100_000


def write_synthetic(source: Path, folder: Path, count: int, seed: int = 1) -> Sequence[Path]:
    """Write `count` traces in random order to files of 100,000 traces; each trace has a different seed.

    The distributions of types, lengths, values and images are those of the trace file `source`. The log prior densities
    remain correct, because whole traces are drawn.
    """
    rng = np.random.Generator(np.random.PCG64(derive(seed, "bench/synthetic", 0)))
    paths = []
    with Shard(source) as shard, Progress(count, "traces", f"drawing {count:,} traces from {source.name}") as progress:
        block = shard.read()
        for number, start in enumerate(range(0, count, FILE_TRACES)):
            path = folder / f"train-{number:03d}.h5"
            size = min(FILE_TRACES, count - start)
            with open_shard(path, replace(shard.provenance, part=number)) as writer:
                for first in range(0, size, ROW_GROUP):
                    rows = rng.integers(0, len(block), min(ROW_GROUP, size - first))
                    part = block.take(rows)
                    part.traces["index"] = np.arange(start + first, start + first + len(rows))
                    part.traces["seed"] = rng.integers(0, 2**63, len(rows))
                    writer.append(part)
                    progress.update(len(rows))
            paths.append(path)
    return paths
