# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Contenders measured in turns, and what is said of them.

A machine that others use too slows whatever runs while they work. So all contenders of a bench take turns in short
slices, round after round, and each is judged by its best slice; the ratios of the single rounds tell how far to trust
the quotient of the best.
"""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FEWEST_ROUNDS = 5
"""Rounds that are made however noisy or late it is."""
STEADY = 0.01
"""Standard error, relative, at which the median of a ratio is known well enough."""
_SLICES_S = (0.01, 0.5)
"""Shortest and longest slice, in seconds."""
_EXPECTED_ROUNDS = 12


class Slice(NamedTuple):
    """What a contender did in one turn: `done` things (runs, round trips, ...) of `draws` draws in `seconds`."""

    done: int
    draws: int
    seconds: float

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.done / self.seconds


Contender = Callable[[float], Slice]
"""Works for about so many seconds."""
Slices = dict[str, list[Slice]]
"""All slices of each contender, in the order of the rounds."""


class Target(NamedTuple):
    """What a ratio is to reach."""

    value: float
    at_least: bool = True

    def reached(self, found: float) -> bool:
        """Return whether it did."""
        return found >= self.value if self.at_least else found < self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<'} {self.value:g}"


@dataclass(frozen=True)
class BenchReport:
    """What a bench found.

    Attributes
    ----------
    title
        Of the table.
    rates
        JSON key -> the value of every round, a second. The value of the key is the best.
    ratios
        JSON key -> (key of the numerator, key of the denominator) among the rates. The value of the key is the quotient
        of their values.
    targets
        Key of a ratio -> what it is to reach.
    pinning
        Key of a rate -> what ran where.
    figures
        Further JSON keys with their values: quotients that are not of two rates, and what else was found.
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
        """Return a ratio, or a rate, round by round."""
        if key in self.rates:
            return list(self.rates[key])
        above, below = self.ratios[key]
        return [a / b for a, b in zip(self.rates[above], self.rates[below], strict=True)]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object: values, then for each of them the rounds, their median and best, then the method."""
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
        """Return the same for people."""
        lines = [self.title, "", f"{'':38s} {'best':>9s} {'median':>9s}  of the rounds"]
        for key, values in self.rates.items():
            lines.append(f"{key:38s} {max(values):9,.0f} {statistics.median(values):9,.0f}  {self.pinning[key]}")
        lines += ["", f"{'':38s} {'of best':>9s} {'median':>9s}  wanted"]
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
    """Call `step`, which returns (things done, draws), until the time is up."""
    done = draws = 0
    began = time.perf_counter()
    while True:
        more = step()
        done, draws = done + more[0], draws + more[1]
        took = time.perf_counter() - began
        if took >= seconds:
            return Slice(done, draws, took)


def take_turns(contenders: Mapping[str, Contender], ratios: Sequence[tuple[str, str]], seconds: float) -> Slices:
    """Measure all contenders in rounds, until the ratios are steady or the time is up.

    Parameters
    ----------
    contenders
        By name. Each gets one slice that does not count, to warm up.
    ratios
        Pairs of names whose quotient of rates matters.
    seconds
        For all of them together; there are `FEWEST_ROUNDS` in any case.
    """
    shortest, longest = _SLICES_S
    length = min(max(seconds / (len(contenders) * _EXPECTED_ROUNDS), shortest), longest)
    began = time.perf_counter()
    for contender in contenders.values():
        contender(shortest)
    slices: Slices = {name: [] for name in contenders}
    rounds = 0
    while rounds < FEWEST_ROUNDS or (
        time.perf_counter() - began < seconds and not all(_is_steady(slices, *pair) for pair in ratios)
    ):
        # forth and back: what grows or fades through a round does so to nobody's advantage
        for name in list(contenders)[:: 1 if rounds % 2 == 0 else -1]:
            slices[name].append(contenders[name](length))
        rounds += 1
    return slices


def _is_steady(slices: Slices, above: str, below: str) -> bool:
    logs = [math.log(a.rate / b.rate) for a, b in zip(slices[above], slices[below], strict=True)]
    middle = statistics.median(logs)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in logs)
    # of a median of normal numbers
    return 1.2533 * deviation / math.sqrt(len(logs)) < STEADY


def machine() -> dict[str, Any]:
    """Return what a reader has to know of the machine, and whether others use it now."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
