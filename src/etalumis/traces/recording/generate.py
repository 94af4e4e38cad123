# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run a model from its prior and record it; an interrupted call can be resumed."""

import json
import logging
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from etalumis.address import AddressTable
from etalumis.batches import is_restartable, restart, run_in_batches
from etalumis.counting import counted
from etalumis.delegation import carries_out_plans
from etalumis.distributions import ArrayDistribution
from etalumis.errors import DatasetError, ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Model, PriorController, run
from etalumis.files import digest, remove_leftovers
from etalumis.names import quoted
from etalumis.progress import Progress
from etalumis.refusals import explaining_loss
from etalumis.seeds import derive
from etalumis.trace import Trace
from etalumis.traces.block import EXPECTED
from etalumis.traces.format import Provenance
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.journal import Journal
from etalumis.traces.recording.recording import Recording
from etalumis.traces.recording.storing import FRAME_TRACES, Storing
from etalumis.traces.target import claimed
from etalumis.traces.writer import open_shard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generated:
    """Result of a call: number of traces drawn, seconds in total, and seconds spent on columns, journal and file."""

    traces: int = 0
    seconds: float = 0.0
    storage_s: float = 0.0

    @property
    def storage_share(self) -> float:
        """Fraction of the time spent on storage."""
        return self.storage_s / self.seconds if self.seconds else 0.0


class PriorRecording(PriorController):
    """Controller that draws every entry from its prior, and values of those observations only that are stored noisy."""

    def __init__(self, rng: np.random.Generator, recording: Recording | None = None) -> None:
        super().__init__(rng)
        self._recording = recording if recording is not None else Recording()

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return None if the expected observation is stored, else a draw from the likelihood."""
        return None if self._recording.storage(distribution) == EXPECTED else distribution.sample(self.rng)


def generate(
    model: Model,
    path: Path,
    provenance: Provenance,
    first: int,
    count: int,
    retries: int = 3,
    recording: Recording | None = None,
    frame_traces: int = FRAME_TRACES,
) -> Generated:
    """Write traces `first` to `first + count - 1` of a run to one trace file.

    Trace i is drawn from the seed `derive(run_seed, "traces/<split>", i)`, so it does not depend on the
    job, the number of workers or interruptions. Every second, new traces are appended to a journal in the folder
    `<path>.part`, from which an interrupted call resumes; the folder is removed when `path` is complete. Memory does
    not grow with `count`. If the file is already complete, the call does nothing.

    Parameters
    ----------
    model
        The model. If it has a method `restart` (a simulator), it is restarted when a run fails.
    provenance
        Provenance of the file, with the run seed and the split.
    retries
        Maximum number of retries of a failed run, with the same seed, before the error is raised.
    recording
        What is kept of each trace.
    frame_traces
        Maximum number of traces per frame of the journal; frames of large traces and slow models have fewer.

    Returns
    -------
    Generated
        Number of traces drawn by this call, and its time.

    Raises
    ------
    SimulatorError, ProtocolError
        If a run failed `retries + 1` times; its seed is in the log.
    DatasetError
        If `path` has other content, another process is generating it, or the traces cannot be stored.
    StorageError
        If a file cannot be written. The traces drawn so far are kept, and the same call resumes from them.
    """
    kept = recording if recording is not None else Recording()
    origin = replace(provenance, kept=kept.entries, recording=json.dumps(asdict(kept)))
    done = Generated()
    with claimed(path, "trace file", "generating"):
        if _is_finished(path, origin, first, count):
            logger.info("%s: already complete, nothing to do", path)
        else:
            remove_leftovers(path)
            runner = _Generator(model, origin, retries, kept)
            done = _generate(path, origin, range(first, first + count), runner, frame_traces)
            logger.info("%s: %.1f %% of the time was spent on storage", path, 100 * done.storage_share)
        folder = _folder(path)
        if folder.exists():
            shutil.rmtree(folder)
    return done


def _generate(path: Path, provenance: Provenance, indices: range, runner: "_Generator", frame_traces: int) -> Generated:
    began = time.perf_counter()
    with Journal(_journal(path, provenance, indices.start), provenance, indices.start) as journal:
        kept = journal.traces
        if kept > len(indices):
            raise DatasetError(
                f"{journal.path}: contains {counted(kept, 'trace')}, expected {len(indices):,} at most; the split is "
                f"smaller now: remove {journal.path.parent} to discard its traces"
            )
        if kept:
            logger.info("%s: resuming after %s of an interrupted call", journal.path, counted(kept, "trace"))
        drawn = kept
        with explaining_loss(lambda: _loss_message(journal, drawn)), open_shard(path, provenance) as writer:
            for block in journal.blocks():
                writer.append(block)
            opened = time.perf_counter()
            builder = BlockBuilder(journal.dictionary, runner.recording)
            storing = Storing(builder, journal, writer, frame_traces)
            with Progress(len(indices), "traces", f"generating {path.name}", done=kept) as progress, storing:
                for one in runner.traces(indices[kept:]):
                    drawn += 1
                    storing.add(one)
                    progress.update()
            finished = time.perf_counter()
            _warn_of_missing_tags(path, runner.recording, writer.tags, builder.dropped_tags)
    ended = time.perf_counter()
    return Generated(len(indices) - kept, ended - began, opened - began + storing.seconds + ended - finished)


def _loss_message(journal: Journal, drawn: int) -> str:
    """Return what an error loses of the traces drawn so far, and how to continue."""
    lost = drawn - journal.traces
    what = f"The last {counted(lost, 'trace')} will be drawn again" if lost else "No trace is lost"
    return f"{what}. The same command continues after the {counted(journal.traces, 'trace')} in {journal.path}."


def _warn_of_missing_tags(path: Path, recording: Recording, found: Collection[str], dropped: Collection[str]) -> None:
    """Warn of names in `recording.tags` that no trace has."""
    missing = [name for name in recording.tags or () if name not in found]
    if missing:
        available = ", ".join(map(quoted, sorted({*found, *dropped})))
        logger.warning(
            "%s: no trace has the %s %s given in traces.tags; the traces have %s",
            path, "tag" if len(missing) == 1 else "tags", ", ".join(map(quoted, missing)),
            f"the tags {available}" if available else "no tags",
        )  # fmt: skip


class _Seeds(Sequence[int]):
    """The seeds of consecutive traces, derived on demand."""

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


class _Generator:
    def __init__(self, model: Model, provenance: Provenance, retries: int, recording: Recording) -> None:
        self._model, self._retries, self.recording = model, retries, recording
        self._run_seed, self._stage = provenance.run_seed, f"traces/{provenance.split}"
        self._addresses = AddressTable()
        self._bases = BaseTable(self._addresses)

    def traces(self, indices: range) -> Iterator[tuple[int, int, Trace]]:
        """Yield (index, seed, trace) of these traces; a failed run is repeated in a new process."""
        origins = _Seeds(self._run_seed, self._stage, indices)
        yield from zip(indices, origins, self._runs(indices, origins), strict=True)

    def _runs(self, indices: range, origins: Sequence[int]) -> Iterator[Trace]:
        def on_failure(error: Exception, number: int, failures: int) -> None:
            self._recover(error, indices[number], origins[number], failures)

        if carries_out_plans(self._model):
            yield from run_in_batches(self._model, self.recording.plan, origins, self._addresses, on_failure)
            return
        for number, seed in enumerate(origins):
            failures = 0
            while True:
                rng = np.random.Generator(np.random.PCG64(seed))
                try:
                    trace = run(self._model, PriorRecording(rng, self.recording), self._addresses, self._bases)
                except (SimulatorError, ProtocolError) as error:
                    failures += 1
                    on_failure(error, number, failures)
                else:
                    break
            yield trace

    def _recover(self, error: Exception, index: int, seed: int, failures: int) -> None:
        # skipping the trace instead would bias the dataset towards runs that do not fail
        if failures > self._retries or not is_restartable(self._model):
            logger.error("trace %d (seed %d) failed %d times, giving up", index, seed, failures)
            raise error
        if failures:
            logger.warning("trace %d (seed %d) failed, attempt %d: %s", index, seed, failures, error)
        restart(self._model, self._retries - failures)


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _journal(path: Path, provenance: Provenance, first: int) -> Path:
    """Return the journal of these traces; calls of another origin have their own."""
    origin = digest({**provenance.as_dict(), "first": first})
    return _folder(path) / f"{origin}.journal"


def _is_finished(path: Path, provenance: Provenance, first: int, count: int) -> bool:
    if not path.exists():
        return False
    try:
        _require_content(path, provenance, first, count)
    except DatasetError as error:
        raise DatasetError(f"{error}; it is not overwritten: remove it or choose another output") from None
    return True


def _require_content(path: Path, provenance: Provenance, first: int, count: int) -> None:
    with Shard(path) as shard:
        index = shard.whole("traces/index")
        if shard.provenance != provenance:
            mine, theirs = provenance.as_dict(), shard.provenance.as_dict()
            differing = ", ".join(f"{k}: {theirs[k]!r} instead of {mine[k]!r}" for k in mine if mine[k] != theirs[k])
            raise DatasetError(f"{path}: contains traces of another origin ({differing})")
        if not np.array_equal(index, np.arange(first, first + count)):
            found = counted(len(index), "trace") + (f" from {index[0]}" if len(index) else "")
            raise DatasetError(f"{path}: contains {found}, expected {counted(count, 'trace')} from {first}")
        shard.check_content()
