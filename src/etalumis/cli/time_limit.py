# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The time limit of a SLURM job: a command in the job stops before it is killed, so that its work is kept.

`sbatch --signal` would not do: it signals job steps, and a batch script that calls the command itself is none.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

MARGIN = "ETALUMIS_STOP_BEFORE_S"
"""Environment variable with the number of seconds before the time limit at which a command stops."""
_MARGIN_S = 60.0
_ANSWER_S = 30.0
_ATTEMPTS = 5
_RETRY_S = 30.0
_NO_ANSWER = (OSError, subprocess.SubprocessError)


@contextmanager
def stopping_in_time() -> Iterator[None]:
    """In a SLURM job with a time limit: send SIGTERM to this process a minute before it.

    The minute is `MARGIN`; a command that begins later has half of the time that is left. Of the ranks of an MPI
    program, only rank 0 does this: the others stop with it. If SLURM does not answer in several attempts, the limit is
    not known, and the program goes on after a warning.
    """
    job = _job()
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(job, _margin_s(), ended), daemon=True, name="time limit")
    watch.start()
    try:
        yield
    finally:
        ended.set()


def _job() -> str | None:
    """Return the number of the job of this process, or None outside of a job.

    The last task of an array has the number of the array, which stands for all its tasks.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None or task is None else f"{array}_{task}"


def _margin_s() -> float:
    text = os.environ.get(MARGIN, "")
    try:
        return max(float(text), 0.0) if text else _MARGIN_S
    except ValueError:
        logger.warning("%s: expected a number of seconds, found %r; using %g", MARGIN, text, _MARGIN_S)
        return _MARGIN_S


def _watch(job: str, margin_s: float, ended: threading.Event) -> None:
    """Wait until the limit is near, which may have changed meanwhile, or until the program has ended."""
    left_s = _first_answer(job, ended)
    if left_s is not None and left_s <= margin_s:
        margin_s = left_s / 2.0
    while left_s is not None:
        if left_s <= margin_s:
            if not ended.is_set():
                logger.warning("SLURM ends job %s in %.0f s: stopping now", job, left_s)
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGTERM)  # so that a wait of the main thread ends
            return
        known_end = time.monotonic() + left_s
        if ended.wait(left_s - margin_s):
            return
        try:
            left_s = seconds_left(job)
        except _NO_ANSWER:
            left_s = known_end - time.monotonic()  # no time for other attempts


def _first_answer(job: str, ended: threading.Event) -> float | None:
    """Return the time until SLURM ends a job; None without a limit or an answer, or if the program has ended."""
    for attempt in range(_ATTEMPTS):
        if attempt and ended.wait(_RETRY_S):
            return None
        try:
            return seconds_left(job)
        except _NO_ANSWER as error:
            reason = error
            if isinstance(error, FileNotFoundError):
                break
    logger.warning(
        "SLURM job %s: its time limit is not known (%s), so this command cannot stop before it and may lose its last "
        "work; make squeue work where the job runs, or request more time",
        job,
        reason,
    )
    return None


def seconds_left(job: str) -> float | None:
    """Return the time until SLURM ends a job, in seconds; None without a limit.

    Raises
    ------
    OSError, subprocess.SubprocessError
        If SLURM does not answer.
    """
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%L"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_S, check=True
    )
    return parse_duration(done.stdout.strip())


def parse_duration(text: str) -> float | None:
    """Return a duration of SLURM, [[days-]hours:]minutes:seconds, in seconds; None if it is none, such as UNLIMITED."""
    days, dash, clock = text.rpartition("-")
    words = clock.split(":")
    if not (all(word.isdecimal() for word in words) and 2 <= len(words) <= 3 and (days.isdecimal() or not dash)):
        return None
    seconds = 0.0
    for word in words:
        seconds = 60.0 * seconds + int(word)
    return seconds + 86_400.0 * int(days or 0)
