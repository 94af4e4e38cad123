# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a person sees of a running workflow: one line per finished job, the progress of those that run, the result.

The jobs write their progress to their logs, and Snakemake a timing for each finished job; both are read here, so that
the workflow itself needs no other output.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etalumis.paths import Paths
from etalumis.progress import duration
from etalumis.timings import job_seconds

TAIL_BYTES = 4096
CLOCK_SLACK_S = 0.1
"""File times come from a clock that ticks more slowly than the one of Python."""
SAID_CHARACTERS = 80
"""Of the last line of a log without a rate, such as a stage of SMC."""
EVERY_S = 30.0
"""Between two reports on the running jobs, if the lines cannot be replaced."""
_TIME = re.compile(r"^\d\d:\d\d:\d\d ")
_STEPS = re.compile(r"^total +(\d+)", re.MULTILINE)
_UP = "\x1b[{}F\x1b[J"
ERROR = "etalumis: error: "


@dataclass(frozen=True)
class Progress:
    """The last progress that a job has logged; empty texts for what it did not say.

    Attributes
    ----------
    share : str
        As "39%".
    rate : str
        As "415.6 sweeps/s".
    left : str
        As "2 m 23 s".
    """

    share: str = ""
    rate: str = ""
    left: str = ""


def last_progress(lines: list[str]) -> Progress:
    """Return the progress in the last log line that gives a rate."""
    for line in reversed(lines):
        fields = [field.strip() for field in re.split(r"  +", _TIME.sub("", line))]
        rate = next((field for field in fields if re.fullmatch(r"[\d.,]+ \S+/s", field)), "")
        if rate and not rate.startswith("0.0 "):
            share = next((field for field in fields if re.fullmatch(r"\d+%", field)), "")
            left = next((field[5:] for field in fields if field.startswith(("left ", "left="))), "")
            return Progress(share, rate, left)
    return Progress()


def tail(path: Path) -> list[str]:
    """Return the last lines of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


class Console:
    """Report on the jobs of one call of Snakemake.

    Parameters
    ----------
    paths
        Paths of the run.
    output
        File with the output of Snakemake, which tells the number of jobs.
    write
        Writes a text as it is.
    live
        Whether lines can be replaced (on a terminal).
    """

    def __init__(self, paths: Paths, output: Path, write: Callable[[str], None], *, live: bool) -> None:
        self.paths, self.output, self.write, self.live = paths, output, write, live
        self.started = time.time() - CLOCK_SLACK_S
        self.finished: set[str] = set()
        self._shown = 0  # lines on the running jobs, to be replaced
        self._last = time.monotonic()

    def poll(self) -> None:
        """Write a line for each job that has finished since the last call, and from time to time for those that run."""
        done = [path for path in self._recent("benchmarks", "tsv") if self._job(path) not in self.finished]
        done.sort(key=lambda path: path.stat().st_mtime)
        due = self.live or time.monotonic() - self._last >= EVERY_S
        if done or due:
            self._erase()
        for path in done:
            self.finished.add(self._job(path))
            self.write(f"{self._finished_line(path)}\n")
        if due:
            self._last = time.monotonic()
            lines = [self._running_line(path) for path in self.running()]
            self.write("".join(f"{line}\n" for line in lines))
            self._shown = len(lines)

    def close(self) -> None:
        """Write what is left to write, and remove the lines on running jobs."""
        self._erase()
        self.live, self._last = False, time.monotonic()
        self.poll()

    def running(self) -> list[Path]:
        """Return the logs of the jobs that have started but not finished."""
        return [path for path in self._recent("logs", "log") if self._job(path) not in self.finished]

    def errors(self) -> list[str]:
        """Return the errors at the end of the logs of unfinished jobs, each with its log."""
        last = {path: [line for line in tail(path) if line.startswith(ERROR)] for path in self.running()}
        found = {path: lines[-1].removeprefix(ERROR) for path, lines in last.items() if lines}
        # Snakemake ends the other jobs when one fails: they are not the cause
        causes = {path: text for path, text in found.items() if not text.startswith("terminated by ")}
        return [f"{path}:\n  {text}" for path, text in (causes or found).items()]

    def _erase(self) -> None:
        if self._shown and self.live:
            self.write(_UP.format(self._shown))
        self._shown = 0

    def _recent(self, folder: str, suffix: str) -> list[Path]:
        """Return the files of jobs that have changed since the start, in the order of their names."""
        found = []
        for path in sorted((self.paths.root / folder).glob(f"*/*.{suffix}")):
            try:
                recent = path.stat().st_mtime >= self.started
            except OSError:  # Snakemake removes the timing of a job that it starts again
                continue
            if recent:
                found.append(path)
        return found

    def _job(self, path: Path) -> str:
        return f"{path.parent.name}/{path.stem}"

    def _log(self, path: Path) -> Path:
        return self.paths.log(path.parent.name, path.stem)

    def _finished_line(self, path: Path) -> str:
        try:
            took = duration(job_seconds(path))
        except (OSError, ValueError, KeyError, IndexError):
            took = "?"
        total = self._total()
        count = f"{len(self.finished)}/{total}" if total else str(len(self.finished))
        return _line(count, path, "done", f"in {took}", last_progress(tail(self._log(path))).rate)

    def _running_line(self, path: Path) -> str:
        lines = tail(path)
        now = last_progress(lines)
        if now == Progress():
            said = _TIME.sub("", next((line for line in reversed(lines) if _TIME.match(line)), ""))
            return f"{_line('', path, 'runs', '', '')}  {said[:SAID_CHARACTERS]}".rstrip()
        return _line("", path, now.share or "runs", f"left {now.left}" if now.left else "", now.rate)

    def _total(self) -> int | None:
        """Return the number of jobs; None until Snakemake has said it."""
        try:
            found = _STEPS.search(self.output.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return None
        # the target `all` is no job with a timing
        return int(found.group(1)) - 1 if found else None


def _line(count: str, path: Path, state: str, time_text: str, rate: str) -> str:
    return f"{count:>7}  {path.parent.name:<11} {path.stem:<16} {state:>5}  {time_text:<17} {rate}".rstrip()
