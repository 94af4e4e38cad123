# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Recording Sherpa's traces: decoding whole messages against recording one trace after the other."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etalumis.address import AddressTable
from etalumis.ppx import Simulator
from etalumis.recorded_trace import RecordedTrace
from etalumis.trace import CONTROLLED, REJECTED, Trace
from etalumis.traces.checking.verify import verify
from etalumis.traces.format import Provenance
from etalumis.traces.reading.shard import Shard
from etalumis.traces.recording import storing
from etalumis.traces.recording.builder import BlockBuilder
from etalumis.traces.recording.generate import generate
from etalumis.traces.recording.recording import Recording
from etalumis.traces.recording.storing import held_bytes
from etalumis.traces.writer import open_shard

SEEDS = list(range(700, 760))
PROVENANCE = Provenance(model="sherpa", run_seed=5, split="train")


@pytest.fixture(scope="module")
def simulator(sherpa_simulator: Path) -> Iterator[Simulator]:
    command = [str(sherpa_simulator / "bin" / "sherpa_tau"), "--config", str(sherpa_simulator / "sherpa_tau.conf")]
    with Simulator(command) as simulator:
        yield simulator


def plain(trace: Trace) -> RecordedTrace:
    """The same trace as if it had been recorded draw by draw."""
    return RecordedTrace(
        trace.addresses, list(trace.address), list(trace.value), list(trace.distribution), [], list(trace.flags),
        [], list(trace.repetition), list(trace.name), list(trace.observes), dict(trace.tags),
    )  # fmt: skip


def written(path: Path, recording: Recording, traces: Sequence[Trace], whole: Sequence[Trace]) -> bytes:
    builder = BlockBuilder(recording=recording)
    with open_shard(path, replace(PROVENANCE, kept=recording.entries)) as writer:
        for start in range(0, len(traces), 25):
            part = slice(start, start + 25)
            builder.add_all(traces[part], SEEDS[part], SEEDS[part])
            block = builder.block()
            # a plain trace does not know what was left out of it
            block.traces["log_prior"] = np.array([trace.log_prior for trace in whole[part]])
            block.traces["draws"] = np.array([trace.draws for trace in whole[part]])
            writer.append(block)
    return path.read_bytes()


@pytest.mark.parametrize("entries", ["accepted", "all", "controlled"])
@pytest.mark.parametrize("observation", ["expected", "noisy"])
@pytest.mark.parametrize("tags", [None, ("channel", "final_state")])
def test_whole_messages_and_single_traces_give_the_same_file(
    simulator: Simulator, tmp_path: Path, entries: str, observation: str, tags: tuple[str, ...] | None
) -> None:
    recording = Recording(entries, observation, tags)
    found = simulator.carry_out(recording.plan._replace(details=True), SEEDS, AddressTable())
    together = written(tmp_path / "together.h5", recording, found, found)
    singly = []
    for trace in found:
        one = plain(trace)
        one.log_prob = [0.0] * len(one.value)
        singly.append(one)
    assert together == written(tmp_path / "singly.h5", recording, singly, found)
    with Shard(tmp_path / "together.h5") as shard:
        block = shard.read()
        assert set(block.tags) == set(tags if tags else found[0].tags)
        (layout,) = block.layouts
        assert layout.storage == ("noisy" if observation == "noisy" else "sparse-expected")
        kept = [trace.controlled if entries == "controlled" else trace.accepted for trace in found]
        assert block.entries.lengths.tolist() == [len(rows) for rows in kept]
        values = itertools.chain.from_iterable(
            [trace.value[i] for i in rows] for trace, rows in zip(found, kept, strict=True)
        )
        assert block.entries.columns["value"].tolist() == list(values)
        assert (block.rejected is not None) == (entries == "all")
        if entries == "controlled":
            assert np.all(block.entries.columns["flags"] & CONTROLLED)


def test_accepted_and_rejected_entries_make_the_whole_trace(simulator: Simulator, tmp_path: Path) -> None:
    recording = Recording("all")
    found = simulator.carry_out(recording.plan, SEEDS, AddressTable())
    written(tmp_path / "all.h5", recording, found, found)
    with Shard(tmp_path / "all.h5") as shard:
        block = shard.read()
    assert block.rejected is not None
    assert sum(block.rejected.lengths) > 0
    for number, trace in enumerate(found):
        accepted = slice(*block.entries.offset[number : number + 2])
        rejected = slice(*block.rejected.offset[number : number + 2])
        position = block.rejected.columns["position"][rejected].astype(int)
        # back in between: what was rejected goes before the accepted entry at its position
        whole = np.insert(block.entries.columns["value"][accepted], position, block.rejected.columns["value"][rejected])
        assert whole.tolist() == trace.value
        repetitions = [r for r, flags in zip(trace.repetition, trace.flags, strict=True) if flags & REJECTED]
        assert block.rejected.columns["repetition"][rejected].tolist() == repetitions
        names = [trace.addresses.name(a) for a, f in zip(trace.address, trace.flags, strict=True) if f & REJECTED]
        addresses = block.dictionary.addresses
        assert [addresses.name(a) for a in block.rejected.columns["address"][rejected].tolist()] == names


@pytest.mark.parametrize("entries", ["accepted", "all", "controlled"])
def test_the_file_does_not_depend_on_journal_frames(simulator: Simulator, tmp_path: Path, entries: str) -> None:
    files = []
    for frame in (7, 500):
        path = tmp_path / f"{frame}.h5"
        generate(simulator, path, PROVENANCE, 0, 60, recording=Recording(entries), frame_traces=frame)
        assert verify([path]) == 60
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_the_size_of_frames_is_bounded(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[list[float]] = []
    add_all = BlockBuilder.add_all

    def spied(builder: BlockBuilder, traces: Sequence[Trace], *others: Sequence[int]) -> None:
        frames.append([held_bytes(trace) for trace in traces])
        add_all(builder, traces, *others)

    generate(simulator, tmp_path / "one.h5", PROVENANCE, 0, 300)
    monkeypatch.setattr(BlockBuilder, "add_all", spied)
    monkeypatch.setattr(storing, "FRAME_BYTES", 200_000)
    monkeypatch.setattr(storing, "FRAME_S", 1e9)  # however slow the machine
    generate(simulator, tmp_path / "many.h5", PROVENANCE, 0, 300)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "many.h5").read_bytes()
    assert sum(map(len, frames)) == 300
    assert len(frames) > 3
    # a frame ends with the first trace that exceeds the limit
    assert all(sum(held[:-1]) <= 200_000 < sum(held) for held in frames[:-1])
    assert sum(map(sum, frames)) > 300 * 2_500
