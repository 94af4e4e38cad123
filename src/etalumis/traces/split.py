# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Divide traces into training, validation and test sets by their seeds, so that a trace never changes its set."""

import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from etalumis.errors import ConfigError, DatasetError
from etalumis.progress import Progress
from etalumis.traces.block import complete_tags
from etalumis.traces.checking.shard import windows
from etalumis.traces.format import Provenance, writing
from etalumis.traces.reading.shard import Shard
from etalumis.traces.sources import Sources
from etalumis.traces.target import claimed
from etalumis.traces.writer import open_shard

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ROWS = 1 << 20


def split(
    inputs: Sequence[Path], output: Path, shares: Mapping[str, float], seed: int, mix: bool = False
) -> dict[str, int]:
    """Write each trace of `inputs` to one of the files `output`/NAME.h5; return the number of traces of each.

    The split of a trace depends only on `seed`, the seed of the trace and the shares (`assign`), so adding traces moves
    none of the others. The traces of a split keep the order of the inputs. The folder appears when all files are
    complete; the next call removes what an interrupted one left behind. Memory is bounded.

    Parameters
    ----------
    inputs
        Trace files, indices or folders with an index.
    output
        A folder that does not exist yet, or is empty.
    shares
        Share of the traces by name of the split; they sum to 1.

    Raises
    ------
    ConfigError
        If the shares are not valid.
    DatasetError
        If an input is damaged, inputs do not belong together, `output` exists, or a split would be empty.
    """
    require_shares(shares)
    output = Path(output)
    if not 0 <= seed < 2**64:
        raise DatasetError(f"--seed {seed}: expected an integer from 0 to 2^64 - 1")
    with claimed(output, "set of splits", folder=True):
        _require_new(output)
        sources = Sources(inputs, mix)
        counts = _counts(sources, shares, seed)
        folder = output.with_name(f".{output.name}.part")
        _remove(folder)
        try:
            _write(sources, folder, shares, seed)
            with writing(output, "folder"):
                folder.replace(output)
        except BaseException:
            _remove(folder)
            raise
    return counts


def require_shares(shares: Mapping[str, float]) -> None:
    """Raise ConfigError unless shares are positive and sum to 1, and their names are valid file names."""
    for name, share in shares.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"split {name!r}: expected a name of letters, digits, '-', '_' and '.', such as 'valid'")
        if not 0.0 < share <= 1.0:
            raise ConfigError(f"split {name!r}: expected a share greater than 0 and at most 1, found {share:g}")
    total = sum(shares.values())
    if abs(total - 1.0) > 1e-9:
        raise ConfigError(f"the shares {' '.join(f'{n}={s:g}' for n, s in shares.items())} sum to {total:g}, not to 1")


def assign(trace_seeds: np.ndarray, shares: Mapping[str, float], seed: int) -> np.ndarray:
    """Return int64 (trace,): index of the split of each trace, in the order of `shares`.

    The unit interval is divided into the shares. The position of a trace in it is given by the upper 53 bits of
    splitmix64(splitmix64(`seed`) xor its own seed), as a number in [0, 1).

    Parameters
    ----------
    trace_seeds
        int64 (trace,).
    """
    start = _splitmix64(np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], np.uint64))
    mixed = _splitmix64(start ^ np.ascontiguousarray(trace_seeds, np.int64).view(np.uint64))
    u = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    edges = np.cumsum(list(shares.values()))[:-1]
    return np.searchsorted(edges, u, side="right")


def _splitmix64(state: np.ndarray) -> np.ndarray:
    """Return the SplitMix64 outputs (Steele, Lea and Flood, OOPSLA 2014) of states; uint64, any shape."""
    z = state + np.uint64(0x9E37_79B9_7F4A_7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))


def _require_new(output: Path) -> None:
    if output.is_dir():
        found = next(output.iterdir(), None)
        if found is None:
            return
        raise DatasetError(f"{output}: not empty (it holds {found.name}); choose a new folder or remove this one")
    if output.exists():
        raise DatasetError(f"{output}: is a file; choose a new folder")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _counts(sources: Sources, shares: Mapping[str, float], seed: int) -> dict[str, int]:
    total = np.zeros(len(shares), np.int64)
    for shard in sources.shards:
        shard.check_content()
        for start in range(0, len(shard), _ROWS):
            seeds = shard.slice("traces/seed", start, min(start + _ROWS, len(shard)))
            total += np.bincount(assign(seeds, shares, seed), minlength=len(shares))
    counts = dict(zip(shares, total.tolist(), strict=True))
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise DatasetError(
            f"{sources.shards[0].path}: none of the {int(total.sum())} traces would be in {', '.join(empty)}; give it "
            "a larger share, or more traces"
        )
    return counts


def _write(sources: Sources, folder: Path, shares: Mapping[str, float], seed: int) -> None:
    total = sum(len(shard) for shard in sources.shards)
    common = replace(sources.provenance, producer=Provenance().producer)
    with Progress(total, "traces", "splitting") as progress, ExitStack() as opened:
        writers = [
            opened.enter_context(open_shard(folder / f"{name}.h5", replace(common, split=name))) for name in shares
        ]
        for shard, start, stop in _windows(sources):
            block = complete_tags(shard.read(start, stop), sources.tag_layouts)
            number = assign(block.traces["seed"], shares, seed)
            for i, writer in enumerate(writers):
                writer.append(block.take(np.flatnonzero(number == i)))
            progress.update(len(block))


def _windows(sources: Sources) -> Iterator[tuple[Shard, int, int]]:
    for shard in sources.shards:
        for start, stop in windows(shard):
            yield shard, start, stop
