# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Progress of long steps: regular log lines with the rate and the time left."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)


class Progress:
    """Count items of work and log a line at most every `interval_s` seconds.

    Works the same on a terminal, in a batch job's log and under Snakemake, so it writes no control characters.

    Parameters
    ----------
    total
        Number of items, or None if it is not known.
    unit
        Name of the items, in the plural ("traces").
    label
        Name of the step in its log lines.
    """

    def __init__(self, total: int | None, unit: str, label: str, interval_s: float = 5.0, done: int = 0) -> None:
        self.total, self.unit, self.label, self.interval_s = total, unit, label, interval_s
        self.done = done
        self._done_before = done  # items of an earlier, interrupted call do not count in the rate
        self._start = self._last_line = time.monotonic()
        self._shown: Mapping[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    @property
    def rate(self) -> float:
        """Items per second since the start of this step."""
        elapsed = time.monotonic() - self._start
        return (self.done - self._done_before) / elapsed if elapsed > 0 else 0.0

    def update(self, n: int = 1, **shown: object) -> None:
        """Count `n` more items; `shown` appears as key=value at the end of the next lines."""
        self.done += n
        if shown:
            self._shown = shown
        now = time.monotonic()
        if now - self._last_line >= self.interval_s:
            self._last_line = now
            logger.info("%s", self._line())

    def tick(self, show: Callable[[], Mapping[str, object]]) -> None:
        """Count one more item. `show` is called only when a line is due, which is cheap for items of microseconds."""
        self.done += 1
        now = time.monotonic()
        if now - self._last_line >= self.interval_s or self.done == self.total:
            self._shown = show()
            if now - self._last_line >= self.interval_s:
                self._last_line = now
                logger.info("%s", self._line())

    def close(self) -> None:
        """Log the last line, with the duration of the step."""
        elapsed = time.monotonic() - self._start
        extra = "".join(f"  {key}={value}" for key, value in self._shown.items())
        took = f"{self.done:,} {self.unit} in {duration(elapsed)}"
        logger.info("%s  %s  %s%s", self.label, took, self._rate(), extra)

    def _rate(self) -> str:
        return f"{self.rate:,.1f} {self.unit}/s"

    def _line(self) -> str:
        parts = [self.label]
        if self.total is None:
            parts += [f"{self.done:,} {self.unit}", self._rate()]
        else:
            share = self.done / self.total if self.total else 1.0
            left = duration((self.total - self.done) / self.rate) if self.rate > 0 else "unknown"
            parts += [f"{self.done:,}/{self.total:,} {self.unit}", f"{share:4.0%}", self._rate(), f"left {left}"]
        parts += [f"{key}={value}" for key, value in self._shown.items()]
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration in readable form: `8.2 s`, `1 m 53 s`, `2 h 05 m`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


@contextmanager
def only_warnings(*names: str) -> Iterator[None]:
    """Let these loggers and those below them write warnings and errors only, unless details were requested."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    if not logging.getLogger("etalumis").isEnabledFor(logging.DEBUG):
        for each in loggers:
            each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
