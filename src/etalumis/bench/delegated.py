# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Delegated prior runs, a contender of several benchmarks."""

from collections.abc import Sequence

from etalumis.address import AddressTable
from etalumis.bench.cores import pin_process
from etalumis.bench.measure import Slice, repeat
from etalumis.delegation import RunPlan
from etalumis.ppx import Simulator

BATCH = 1024
"""Traces per request, as in `traces generate` after its first batches."""


class Delegated:
    """Prior runs in large requests, with the simulator on another core or on this one; counts traces and draws."""

    def __init__(self, simulator: Simulator, addresses: AddressTable, core: Sequence[int]) -> None:
        self._simulator, self._addresses, self._core = simulator, addresses, core
        self._seed = 0

    def __call__(self, seconds: float) -> Slice:
        """Run for about `seconds`."""
        assert self._simulator.pid is not None  # it was started here
        for core in self._core:
            pin_process(self._simulator.pid, core)
        return repeat(self._batch, seconds)

    def _batch(self) -> tuple[int, int]:
        seeds = range(self._seed, self._seed + BATCH)
        self._seed += BATCH
        traces = self._simulator.carry_out(RunPlan(), seeds, self._addresses)
        return len(traces), sum(trace.draws for trace in traces)
