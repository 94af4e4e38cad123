# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Time and memory of one step on a dataset, in a new process: `python -m etalumis.bench.resident`.

Prints one line of JSON: `seconds` of the step, `peak_rss_mb` of the process (1e6 bytes), `base_rss_mb` before the step.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.errors import DatasetError
from etalumis.ppx import Simulator
from etalumis.traces.format import Provenance
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.generate import generate
from etalumis.traces.sorting.sort import sort
from etalumis.traces.writer import ROW_GROUP, open_shard

BATCH = 64
_READ_BATCHES = 100
_READ_CACHE_MB = 16
"""Small enough to be filled by the smaller set as well, so that only the index grows with the set."""


def generated(output: str, count: str, *command: str) -> None:
    """Generate traces and write them to a file."""
    with Simulator(list(command)) as simulator:
        generate(simulator, Path(output), Provenance(model=simulator.name, run_seed=1, split="train"), 0, int(count))


def sorted_set(output: str, shard_traces: str, memory_mb: str, *inputs: str) -> None:
    """Sort trace files into a folder."""
    sort([Path(path) for path in inputs], Path(output), int(shard_traces), int(memory_mb))


def copied(output: str, *inputs: str) -> None:
    """Copy trace files by reading and writing their traces."""
    for number, path in enumerate(inputs):
        with Shard(Path(path)) as shard, open_shard(Path(output) / f"copy-{number}.h5", shard.provenance) as writer:
            for start in range(0, len(shard), ROW_GROUP):
                writer.append(shard.read(start, min(start + ROW_GROUP, len(shard))))


def read(*inputs: str) -> None:
    """Read minibatches of consecutive and of random traces, from all parts of the files."""
    dataset = TraceDataset([Path(path) for path in inputs], cache_mb=_READ_CACHE_MB)
    rng = np.random.default_rng(1)
    for epoch, start in enumerate(np.linspace(0, max(len(dataset) - BATCH, 0), _READ_BATCHES, dtype=int).tolist()):
        dataset.batch(np.arange(start, min(start + BATCH, len(dataset))), (1, epoch))
        dataset.batch(rng.integers(0, len(dataset), BATCH), (2, epoch))


_STEPS: dict[str, Callable[..., None]] = {"generate": generated, "sort": sorted_set, "copy": copied, "read": read}


def measured(step: str, arguments: Sequence[str | Path | int]) -> dict[str, Any]:
    """Carry out a step in a new process; return its time and memory.

    Raises
    ------
    DatasetError
        If the process fails.
    """
    command = [sys.executable, "-m", "etalumis.bench.resident", step, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DatasetError(f"bench dataset: the step {step!r} failed:\n{done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _main(step: str, *arguments: str) -> None:
    base = _peak_mb()
    began = time.perf_counter()
    _STEPS[step](*arguments)
    found = {"seconds": time.perf_counter() - began, "peak_rss_mb": _peak_mb(), "base_rss_mb": base}
    sys.stdout.write(json.dumps(found) + "\n")


def _peak_mb() -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except OSError:  # not on Linux, where ru_maxrss would include the memory of the parent
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    _main(*sys.argv[1:])
