# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Histogram of the lengths of traces, in bounded memory."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_SPREAD_RATIO = 20


@dataclass(frozen=True)
class LengthCounts:
    """Traces by their number of accepted entries.

    Attributes
    ----------
    length
        int64 (bin,): lowest length of each bin, ascending; bins without traces may be left out.
    traces
        int64 (bin,): number of traces in each bin.
    width
        Number of lengths per bin; 1 means that the histogram is exact.
    entries
        Sum of all lengths.
    longest
        The maximum length.
    """

    length: np.ndarray
    traces: np.ndarray
    width: int
    entries: int
    longest: int

    @classmethod
    def of(cls, lengths: np.ndarray) -> "LengthCounts":
        """Return the histogram of int64 (trace,) lengths."""
        length, traces = np.unique(lengths, return_counts=True)
        return cls(length, traces, 1, int(lengths.sum()), int(lengths.max(initial=0)))

    @classmethod
    def of_counts(cls, counts: Mapping[int, int]) -> "LengthCounts":
        """Return the histogram from the number of traces of each length."""
        length = np.array(sorted(counts), np.int64)
        traces = np.array([counts[n] for n in length.tolist()], np.int64)
        return cls(length, traces, 1, int(length @ traces), int(length.max(initial=0)))

    @classmethod
    def of_index(cls, content: Mapping[str, Any]) -> "LengthCounts":
        """Return the histogram in the index of a sorted set."""
        rows = np.array(content["lengths"]["counts"], np.int64).reshape(-1, 2)
        longest = max((row["lengths"][1] for row in content["types"]), default=0)
        return cls(rows[:, 0], rows[:, 1], int(content["lengths"]["width"]), int(content["entries"]), int(longest))

    def __len__(self) -> int:
        """Return the number of traces."""
        return int(self.traces.sum())

    @property
    def mean(self) -> float:
        """Mean length; NaN if there are no traces."""
        return self.entries / len(self) if len(self) else float("nan")

    @property
    def median(self) -> int:
        """Lowest length of the bin that contains the median."""
        return int(self.length[np.searchsorted(np.cumsum(self.traces), 0.5 * len(self))])

    @property
    def spread(self) -> bool:
        """Whether the lengths span orders of magnitude, so that bins of equal width would hide most of them."""
        return len(self.length) > 0 and self.longest + 1 > _SPREAD_RATIO * max(1, int(self.length[0]))

    def binned(self, bins: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (edges, counts) of at most `bins` bins; bin i has the lengths edges[i] to edges[i + 1] - 1.

        Bins have equal integer widths, or widths that grow geometrically if the lengths `spread`.
        """
        if not len(self.length):
            return np.array([0, 1]), np.zeros(1, np.int64)
        low, high = int(self.length[0]), max(self.longest, int(self.length[-1]))
        steps = -(-(high - low + 1) // self.width)  # existing bins, which are not divided
        if self.spread and steps > bins:
            series = np.geomspace(max(1, low), high + 1, bins + 1)
            cuts = np.unique(np.clip(np.ceil((series - low) / self.width).astype(np.int64), 0, steps))
            cuts = np.unique(np.concatenate([[0], cuts, [steps]]))
        else:
            cuts = np.arange(0, steps + -(-steps // bins), -(-steps // bins))
        edges = low + self.width * cuts
        return edges, np.histogram(self.length, edges, weights=self.traces)[0].astype(np.int64)


def add_lengths(counter: Counter[int], offset: np.ndarray) -> None:
    """Count the lengths of the lists with int64 (n + 1,) offsets."""
    length, traces = np.unique(np.diff(offset), return_counts=True)
    counter.update(dict(zip(length.tolist(), traces.tolist(), strict=True)))
