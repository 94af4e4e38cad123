# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Output of all verbs: log lines go to standard error and to a file, results to standard output."""

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from etalumis.cli.streams import write_output
from etalumis.errors import ConfigError

logger = logging.getLogger("etalumis")

_FIRST_LINE = re.compile(rb"\d\d:\d\d:\d\d |etalumis: error: ")
"""Beginning of every non-empty log, as `_Formatter` writes it."""


@dataclass(frozen=True)
class Options:
    """The options that every verb accepts, before or after its name."""

    level: int = logging.INFO
    log: Path | None = None

    @classmethod
    def take(cls, argv: list[str]) -> tuple[Self, list[str]]:
        """Split a command line into these options and the rest."""
        level, log, rest = logging.INFO, None, []
        words = iter(argv)
        for word in words:
            if word in ("-v", "--verbose"):
                level = logging.DEBUG
            elif word in ("-q", "--quiet"):
                level = logging.WARNING
            elif word == "--log":
                log = next(words, None)
                if log is None:
                    raise SystemExit("etalumis: error: --log: expected a file")
            elif word.startswith("--log="):
                log = word.removeprefix("--log=")
            elif word == "--":
                rest += [word, *words]
            else:
                rest.append(word)
        return cls(level, None if log is None else Path(log)), rest


class _Formatter(logging.Formatter):
    """`12:03:04 message`, with the level of warnings; the final error has no time, as the errors of argparse."""

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "whole", False):
            return f"etalumis: error: {record.getMessage()}"
        level = "" if record.levelno in (logging.INFO, logging.DEBUG) else f"{record.levelname.lower()}: "
        text = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def mpi_rank() -> int:
    """Return the rank that the MPI launcher gave this process (0 outside MPI), without starting MPI."""
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def open_logs(options: Options) -> None:
    """Send the log lines of the package to standard error and, if requested, to a file with unexpected errors.

    Under MPI, rank 0 logs everything and the others only warnings. Each rank has its own file (``FILE``,
    ``FILE.rank1``, ...).

    Raises
    ------
    ConfigError
        If the file cannot be written, or exists and is not a log.
    """
    close_logs()
    rank = mpi_rank()
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(options.level if rank == 0 else max(options.level, logging.WARNING))
    _add(terminal)
    logger.setLevel(options.level)
    logger.propagate = False
    if options.log is not None:
        _add(_file_handler(options.log if rank == 0 else Path(f"{options.log}.rank{rank}")))
        sys.excepthook = _log_unexpected


def _add(handler: logging.Handler) -> None:
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)


def _file_handler(path: Path) -> logging.Handler:
    try:
        if path.is_file():
            with path.open("rb") as existing:
                start = existing.read(64)
            if start and _FIRST_LINE.match(start) is None:
                raise ConfigError(f"--log {path}: exists and is not a log of etalumis; choose another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.FileHandler(path, mode="w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--log {path}: cannot be written ({error.strerror})") from error


def close_logs() -> None:
    """Undo `open_logs`, but keep the file open while an exception propagates, which goes there."""
    if sys.exc_info()[0] is not None:
        return
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    sys.excepthook = sys.__excepthook__
    logger.propagate = True


def say(text: str = "") -> None:
    """Write a line of a result to standard output."""
    write_output(f"{text}\n")


def _log_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("unexpected error", exc_info=(kind, error, trace))
