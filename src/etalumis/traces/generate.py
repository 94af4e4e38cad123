# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run a model from its prior and record it; what an interrupted call has done is kept."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import Restartable, carried_out, restart
from etalumis.distributions import ArrayDistribution
from etalumis.errors import DatasetError, ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Model, Site, run
from etalumis.plan import Delegate, Plan
from etalumis.progress import Progress
from etalumis.seeds import derive
from etalumis.trace import Trace
from etalumis.traces.block import EXPECTED
from etalumis.traces.builder import SMALLEST_EXPECTED, storage_of
from etalumis.traces.format import Provenance
from etalumis.traces.shard import Shard
from etalumis.traces.writer import TraceWriter, open_shard

logger = logging.getLogger(__name__)

PIECE_TRACES = 500
"""Traces that are kept when a call is killed: those of every finished piece."""


PRIOR_RECORDING = Plan(parameters=True, draw_below=SMALLEST_EXPECTED)
"""What `PriorRecording` decides, said beforehand: small observations are stored noisy, so a value is drawn for them."""


class PriorRecording:
    """Controller that draws every entry from its prior, and a value only for observations that are stored noisy."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def sample(self, site: Site) -> float:
        """Return a draw from the prior."""
        return site.distribution.sample(self._rng)

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return None where the expected observation is stored, else a draw from the likelihood."""
        return None if storage_of(distribution) == EXPECTED else distribution.sample(self._rng)


def generate(
    model: Model,
    path: Path,
    provenance: Provenance,
    first: int,
    count: int,
    retries: int = 3,
    piece_traces: int = PIECE_TRACES,
) -> None:
    """Write traces `first` to `first + count - 1` of a run to one trace file.

    Trace i is drawn from the seed `derive(run_seed, "traces/<split>", i)`, so it is the same in whatever job and after
    whatever interruption. Finished pieces lie in the folder `<path>.part` until all are there; they are then joined
    into `path`, and the folder is removed. A call whose file is already whole does nothing.

    Parameters
    ----------
    model
        What to run; one with a method `restart` (a simulator) is restarted when a run fails.
    provenance
        What the file says of its origin; gives run seed and split.
    retries
        How often a failed run is tried again, with the same seed, before the error is passed on.
    piece_traces
        Traces in a piece.

    Raises
    ------
    SimulatorError, ProtocolError
        Where a run failed `retries + 1` times; its seed is in the log.
    DatasetError
        Where `path` holds something else, or the model's traces cannot be stored.
    """
    if _is_finished(path, provenance, first, count):
        logger.info("%s: already whole, nothing to do", path)
        _remove(_folder(path))
        return
    folder = _folder(path)
    done = _finished_pieces(folder, provenance, first, count, piece_traces)
    if done:
        logger.info("%s: %d traces of an interrupted call are kept", folder, done)
    runner = _Runner(model, provenance, retries)
    with Progress(count, "traces", f"generating {path.name}", done=done) as progress:
        found = runner.traces(range(first + done, first + count))
        for start in range(first + done, first + count, piece_traces):
            with TraceWriter(folder / _piece(start), provenance) as writer:
                for index, seed, trace in islice(found, piece_traces):
                    writer.add(trace, seed, index)
                    progress.update()
    _join(folder, path, provenance, range(first, first + count, piece_traces))


class _Seeds(Sequence[int]):
    """The seeds of some traces, derived when they are asked for."""

    def __init__(self, run_seed: int, stage: str, indices: range) -> None:
        self._run_seed, self._stage, self._indices = run_seed, stage, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> list[int]: ...

    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [derive(self._run_seed, self._stage, index) for index in self._indices[at]]
        return derive(self._run_seed, self._stage, self._indices[at])


class _Runner:
    def __init__(self, model: Model, provenance: Provenance, retries: int) -> None:
        self._model, self._retries = model, retries
        self._run_seed, self._stage = provenance.run_seed, f"traces/{provenance.split}"
        self._addresses = AddressTable()
        self._bases = BaseTable(self._addresses)

    def traces(self, indices: range) -> Iterator[tuple[int, int, Trace]]:
        """Yield (index, seed, trace) of these traces; a failed run is repeated on a fresh process."""
        origins = _Seeds(self._run_seed, self._stage, indices)
        yield from zip(indices, origins, self._runs(indices, origins), strict=True)

    def _runs(self, indices: range, origins: Sequence[int]) -> Iterator[Trace]:
        def on_failure(error: Exception, number: int, failures: int) -> None:
            self._recover(error, indices[number], origins[number], failures)

        if isinstance(self._model, Delegate) and self._model.delegates:
            yield from carried_out(self._model, PRIOR_RECORDING, origins, self._addresses, on_failure)
            return
        for number, seed in enumerate(origins):
            failures = 0
            while True:
                rng = np.random.Generator(np.random.PCG64(seed))
                try:
                    trace = run(self._model, PriorRecording(rng), self._addresses, self._bases)
                except (SimulatorError, ProtocolError) as error:
                    failures += 1
                    on_failure(error, number, failures)
                else:
                    break
            yield trace

    def _recover(self, error: Exception, index: int, seed: int, failures: int) -> None:
        # leaving the trace out instead would bias the dataset towards runs that do not fail
        if failures > self._retries or not isinstance(self._model, Restartable):
            logger.error("trace %d (seed %d) failed %d times, giving up", index, seed, failures)
            raise error
        if failures:
            logger.warning("trace %d (seed %d) failed, attempt %d: %s", index, seed, failures, error)
        restart(self._model, self._retries - failures)


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _piece(start: int) -> str:
    return f"{start:012d}.h5"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _is_finished(path: Path, provenance: Provenance, first: int, count: int) -> bool:
    if not path.exists():
        return False
    try:
        _require_piece(path, provenance, first, count)
    except DatasetError as error:
        raise DatasetError(f"{error}; remove it or name another output: it is not overwritten") from None
    return True


def _require_piece(path: Path, provenance: Provenance, first: int, count: int) -> None:
    with Shard(path) as shard:
        index = shard.whole("traces/index")
        if shard.provenance != provenance:
            mine, theirs = provenance.as_dict(), shard.provenance.as_dict()
            differing = ", ".join(f"{k}: {theirs[k]!r} instead of {mine[k]!r}" for k in mine if mine[k] != theirs[k])
            raise DatasetError(f"{path}: holds traces of another origin ({differing})")
        if not np.array_equal(index, np.arange(first, first + count)):
            found = f"{len(index)} traces" + (f" from {index[0]}" if len(index) else "")
            raise DatasetError(f"{path}: holds {found}, expected {count} traces from {first}")
        shard.check_content()


def _finished_pieces(folder: Path, provenance: Provenance, first: int, count: int, piece_traces: int) -> int:
    """Return how many traces of this very call are kept in `folder`; remove everything else in it."""
    done = 0
    kept: set[Path] = set()
    while done < count:
        path, size = folder / _piece(first + done), min(piece_traces, count - done)
        if not path.exists():
            break
        try:
            _require_piece(path, provenance, first + done, size)
        except DatasetError as error:
            logger.warning("%s; generating it again", error)
            break
        kept.add(path)
        done += size
    if folder.exists():
        for path in folder.iterdir():
            if path not in kept:
                path.unlink()
    return done


def _join(folder: Path, path: Path, provenance: Provenance, starts: range) -> None:
    with open_shard(path, provenance) as writer:
        for start in starts:
            with Shard(folder / _piece(start)) as piece:
                writer.append(piece.read())
    _remove(folder)
