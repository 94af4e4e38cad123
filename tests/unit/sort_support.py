# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trace files made of random numbers, a slow sorting to compare with, and ranks that are threads."""

import hashlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from etalumis.traces.block import EXPECTED, NOISY, Block, Expected, Layout, complete_tags, join
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ACCEPTED, ALL, REJECTED_DTYPES, Provenance
from etalumis.traces.ragged import Ragged, offsets
from etalumis.traces.sources import Sources
from etalumis.traces.writer import open_shard

LAYOUTS = (Layout("image", (8, 10), EXPECTED), Layout("counts", (3,), NOISY))
PROVENANCE = Provenance(model="random", run_seed=1, split="train", config_digest="c0", simulator_build_id="b0")


class Threads:
    """Communicators of `size` ranks in one process."""

    def __init__(self, size):
        self._size, self._given = size, [None] * size
        self._barrier = threading.Barrier(size, timeout=60)

    def run(self, step):
        """Call `step(communicator)` on every rank; raise what the lowest failing one raised."""
        with ThreadPoolExecutor(self._size) as pool:
            futures = [pool.submit(self._guarded, step, rank) for rank in range(self._size)]
        for future in futures:
            if future.exception() is not None and not isinstance(future.exception(), threading.BrokenBarrierError):
                raise future.exception()

    def _guarded(self, step, rank):
        try:
            step(_Rank(self, rank))
        except BaseException:
            self._barrier.abort()  # an error that the ranks did not agree on: nobody is left waiting
            raise

    def allgather(self, rank, value):
        self._given[rank] = value
        self._barrier.wait()
        result = list(self._given)
        self._barrier.wait()
        return result


class _Rank:
    def __init__(self, threads, rank):
        self._threads, self._rank = threads, rank

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._threads._size

    def allgather(self, sendobj):
        return self._threads.allgather(self._rank, sendobj)


def lists(rng, lengths, columns):
    """Return lists of these lengths with random content; `columns` are dtypes, or (dtype, highest + 1)."""
    offset = offsets(lengths)
    content = {}
    for name, (dtype, most) in columns.items():
        drawn = rng.normal(size=offset[-1]) if most is None else rng.integers(0, most, offset[-1])
        content[name] = drawn.astype(dtype)
    return Ragged(offset, content)


def random_block(rng, traces, dictionary, seeds, kinds=6, rejected=False, late=True):
    """Return traces of `kinds` types, of which some are rare."""
    kind = np.minimum(rng.geometric(0.4, traces) - 1, kinds - 1)
    lengths = 1 + kind % 3 + rng.integers(0, 2, traces)
    types = np.array([list(hashlib.blake2b(bytes([k]), digest_size=16).digest()) for k in kind.tolist()], np.uint8)
    numbers = {"address": ("u4", len(dictionary.addresses)), "distribution": ("u4", len(dictionary.distributions))}
    columns = {**numbers, "value": ("f8", None), "flags": ("u1", 4)}
    image = lists(rng, rng.integers(0, 9, traces), {"step": ("u2", 80), "mean": ("f4", None)})
    particles = lists(rng, rng.integers(0, 3, traces), {"x": ("f8", None)})
    tags = {
        "momentum": rng.normal(size=(traces, 3)),
        "particles": Ragged(particles.offset, {"content": np.repeat(particles.columns["x"][:, None], 2, axis=1)}),
    }
    more = {name: (dtype, 50) for name, dtype in REJECTED_DTYPES.items() if name not in columns}
    return Block(
        dictionary,
        lists(rng, lengths, columns),
        {
            "type": types.reshape(traces, 16),
            "log_prior": rng.normal(size=traces),
            "log_likelihood": np.full(traces, np.nan),
            "seed": seeds,
            "draws": lengths + 1,
            "index": np.arange(traces),
        },
        LAYOUTS,
        {
            "image": Expected(image, rng.uniform(0.1, 1, traces)),
            "counts": rng.normal(size=(traces, 3)).astype(np.float32),
        },
        tags | ({"late": rng.normal(size=traces)} if late else {}),
        lists(rng, rng.integers(0, 3, traces), {**columns, **more}) if rejected else None,
    )


def random_dictionary(rng):
    """Return a dictionary of some of the addresses and distributions that there are, in random order."""
    dictionary = Dictionary()
    for number in rng.permutation(12)[:8].tolist():
        dictionary.address(f"main:{number}__Uniform__1", f"x{number}" if number % 3 == 0 else "")
    for number in rng.permutation(5)[:3].tolist():
        dictionary.distribution((1, (float(number), float(number) + 1)))
    return dictionary


def random_files(folder, seed, counts, rejected=False, spread=None):
    """Write one file for each of `counts`; return their paths.

    Seeds are from -`spread` to `spread`, without repetition, or from all of int64.
    """
    rng = np.random.default_rng(seed)
    total = sum(counts)
    if spread is None:
        seeds = np.unique(rng.integers(-(2**63), 2**63 - 1, total, endpoint=True))
        assert len(seeds) == total
        if total > 1:
            seeds[[0, -1]] = -(2**63), 2**63 - 1
        seeds = rng.permutation(seeds)
    else:
        seeds = rng.permutation(np.arange(-spread, spread))[:total]
    paths = []
    for number, (start, stop) in enumerate(pairwise([0, *np.cumsum(counts).tolist()])):
        paths.append(folder / f"part-{number:03d}.h5")
        kept = ALL if rejected else ACCEPTED
        with open_shard(paths[-1], replace(PROVENANCE, part=number, kept=kept)) as writer:
            block = random_block(rng, stop - start, random_dictionary(rng), seeds[start:stop], 6, rejected, number % 2)
            writer.append(block)
    return paths


def slow_sort(files, folder, shard_traces):
    """Sort as the documentation says, by Python's `sorted` over all traces in memory; write the shards only."""
    sources = Sources(files)
    blocks = [complete_tags(shard.read(), sources.tag_layouts) for shard in sources.shards if len(shard)]
    block = join(blocks)
    kinds = [row.tobytes() for row in block.traces["type"]]
    frequency = Counter(kinds)
    lengths, seeds = block.entries.lengths.tolist(), block.traces["seed"].tolist()
    rows = sorted(range(len(block)), key=lambda i: (-frequency[kinds[i]], kinds[i], lengths[i], seeds[i]))
    provenance = replace(sources.provenance, producer=Provenance().producer)
    folder.mkdir()
    for number, start in enumerate(range(0, len(rows), shard_traces)):
        of_shard = np.array(rows[start : start + shard_traces])
        with open_shard(folder / f"shard-{number:05d}.h5", provenance) as writer:
            writer.append(block.take(of_shard))


def bytes_of(folder, pattern="*"):
    """Return the content of a folder's files by name."""
    return {path.name: path.read_bytes() for path in Path(folder).glob(pattern)}
