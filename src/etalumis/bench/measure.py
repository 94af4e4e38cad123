# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Measurement of alternating contenders, and the report.

Other users of a machine slow down a measurement at random times. All contenders of a benchmark therefore alternate in
short slices, in several rounds, and the result of each is its best slice. The ratios of the individual rounds show how
reliable the ratio of the best slices is.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etalumis import processor

MIN_ROUNDS = 5
TARGET_RELATIVE_ERROR = 0.01
"""Relative standard error of the median of a ratio at which the measurement stops."""
_SLICES_S = (0.01, 0.5)
"""Shortest and longest slice, in seconds."""
_EXPECTED_ROUNDS = 12


class Slice(NamedTuple):
    """Result of a contender in one slice: `done` items (runs, round trips, ...) with `draws` draws in `seconds`."""

    done: int
    draws: int
    seconds: float

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.done / self.seconds


Contender = Callable[[float], Slice]
"""Works for about the given number of seconds."""
Slices = dict[str, list[Slice]]
"""All slices of each contender, in the order of the rounds."""


class Target(NamedTuple):
    """The target of a ratio."""

    value: float
    at_least: bool = True

    def reached(self, found: float) -> bool:
        """Return whether a value reaches the target."""
        return found >= self.value if self.at_least else found < self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<'} {self.value:g}"


@dataclass(frozen=True)
class BenchReport:
    """Results of a benchmark.

    Attributes
    ----------
    title
        Title of the table.
    rates
        JSON key -> rate in every round, per second. The value of the key is the best one.
    ratios
        JSON key -> (key of the numerator, key of the denominator) in `rates`. The value of the key is the quotient of
        their values.
    targets
        Key of a ratio -> its target.
    pinning
        Key of a rate -> which process ran on which core.
    figures
        Further JSON keys and their values: other ratios, and other results.
    measured
        How it was measured.
    """

    title: str
    rates: Mapping[str, Sequence[float]]
    ratios: Mapping[str, tuple[str, str]]
    targets: Mapping[str, Target]
    pinning: Mapping[str, str]
    figures: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> float:
        """Return the value of a JSON key."""
        if key in self.rates:
            return max(self.rates[key])
        if key in self.ratios:
            above, below = self.ratios[key]
            return self.value(above) / self.value(below)
        return self.figures[key]

    def of_rounds(self, key: str) -> list[float]:
        """Return a ratio or a rate in every round."""
        if key in self.rates:
            return list(self.rates[key])
        above, below = self.ratios[key]
        return [a / b for a, b in zip(self.rates[above], self.rates[below], strict=True)]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object: values, all rounds with their median and best, targets, and method."""
        keys = [*self.rates, *self.ratios]
        return {
            **{key: self.value(key) for key in [*keys, *self.figures]},
            "rounds": {key: _spread(self.of_rounds(key)) for key in keys},
            "targets": {
                key: {"wanted": str(target), "reached": target.reached(self.value(key))}
                for key, target in self.targets.items()
            },
            "measured": {**self.measured, "pinning": dict(self.pinning)},
        }

    def table(self) -> str:
        """Return the results as a text table."""
        lines = [self.title, "", f"{'':38s} {'best':>9s} {'median':>9s}  of the rounds"]
        for key, values in self.rates.items():
            lines.append(f"{key:38s} {max(values):9,.0f} {statistics.median(values):9,.0f}  {self.pinning[key]}")
        lines += ["", f"{'':38s} {'of best':>9s} {'median':>9s}  target"]
        for key in [*self.ratios, *self.figures]:
            median = f"{statistics.median(self.of_rounds(key)):9.3g}" if key in self.ratios else f"{'':9s}"
            target = self.targets.get(key)
            verdict = "" if target is None else f"  {target}: {'yes' if target.reached(self.value(key)) else 'NO'}"
            lines.append(f"{key:38s} {self.value(key):9.3g} {median}{verdict}")
        lines += ["", *(f"{k}: {v}" for k, v in self.measured.items() if not isinstance(v, dict))]
        return "\n".join(line.rstrip() for line in lines)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "best": max(values), "values": list(values)}


def repeat(step: Callable[[], tuple[int, int]], seconds: float) -> Slice:
    """Call `step`, which returns (number of items, number of draws), until the time is over."""
    done = draws = 0
    began = time.perf_counter()
    while True:
        more = step()
        done, draws = done + more[0], draws + more[1]
        took = time.perf_counter() - began
        if took >= seconds:
            return Slice(done, draws, took)


def take_turns(
    contenders: Mapping[str, Contender],
    ratios: Sequence[tuple[str, str]],
    seconds: float,
    longest_s: float = _SLICES_S[1],
) -> Slices:
    """Measure all contenders in rounds, until the ratios are precise enough or the time is over.

    Parameters
    ----------
    contenders
        By name. Each has one slice of warm-up, which does not count.
    ratios
        Pairs of names whose ratio of rates must be precise.
    seconds
        Total time for all contenders; there are at least `MIN_ROUNDS` rounds.
    longest_s
        Longest slice, in seconds.
    """
    shortest = _SLICES_S[0]
    length = min(max(seconds / (len(contenders) * _EXPECTED_ROUNDS), shortest), longest_s)
    began = time.perf_counter()
    for contender in contenders.values():
        contender(shortest)
    slices: Slices = {name: [] for name in contenders}
    rounds = 0
    while rounds < MIN_ROUNDS or (
        time.perf_counter() - began < seconds and not all(_is_precise(slices, *pair) for pair in ratios)
    ):
        # alternating order, so that a drift during a round favours no contender
        for name in list(contenders)[:: 1 if rounds % 2 == 0 else -1]:
            slices[name].append(contenders[name](length))
        rounds += 1
    return slices


def _is_precise(slices: Slices, above: str, below: str) -> bool:
    logs = [math.log(a.rate / b.rate) for a, b in zip(slices[above], slices[below], strict=True)]
    middle = statistics.median(logs)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in logs)
    # standard error of the median of normal deviates
    return 1.2533 * deviation / math.sqrt(len(logs)) < TARGET_RELATIVE_ERROR


def machine() -> dict[str, Any]:
    """Return processor, number of cores, and the load average, which shows other users of the machine."""
    return {
        "processor": processor.model(),
        "cores": processor.cores(),
        "load_average_before": os.getloadavg()[0],
    }
