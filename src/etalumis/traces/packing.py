# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Blocks as plain bytes: what journals and spill files hold, written and read at the speed of memory."""

from typing import Any

import numpy as np

from etalumis.traces.block import Block, Expected, Layout, Observation, Tag
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.ragged import Ragged

_ALIGNMENT = 8


def pack(block: Block) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return a JSON-able description of a block and its columns, C-contiguous, in that order.

    The file that takes them pads each column to a multiple of 8 bytes (`padding`). The dictionary is not part of it.
    """
    columns = dict(_columns(block))
    description = {
        "layouts": [[layout.name, list(layout.shape), layout.storage] for layout in block.layouts],
        "columns": [[name, column.dtype.str, list(column.shape)] for name, column in columns.items()],
    }
    return description, [np.ascontiguousarray(column) for column in columns.values()]


def padding(nbytes: int) -> int:
    """Return how many bytes are left to a multiple of 8."""
    return -nbytes % _ALIGNMENT


def unpack(description: dict[str, Any], content: memoryview, dictionary: Dictionary) -> Block:
    """Return the block that `pack` described; its columns are views of `content`.

    Raises
    ------
    ValueError, KeyError, TypeError
        Where description and content do not belong together.
    """
    columns: dict[str, np.ndarray] = {}
    start = 0
    for name, dtype, shape in description["columns"]:
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        columns[name] = np.frombuffer(content, kind, count, start).reshape(shape)
        start += count * kind.itemsize + padding(count * kind.itemsize)
    layouts = tuple(Layout(name, tuple(shape), storage) for name, shape, storage in description["layouts"])
    tags = {name for name in (path.split("/")[1] for path in columns if path.startswith("tags/"))}
    return Block(
        dictionary,
        _ragged(columns, "entries"),
        {path.removeprefix("traces/"): column for path, column in columns.items() if path.startswith("traces/")},
        layouts,
        {layout.name: _observation(columns, f"observations/{layout.name}") for layout in layouts},
        {name: _tag(columns, f"tags/{name}") for name in sorted(tags)},
        _ragged(columns, "rejected") if "rejected/offset" in columns else None,
    )


def _columns(block: Block) -> list[tuple[str, np.ndarray]]:
    found = [*_lists("entries", block.entries), *((f"traces/{name}", c) for name, c in block.traces.items())]
    for layout in block.layouts:
        observation, group = block.observations[layout.name], f"observations/{layout.name}"
        if isinstance(observation, Expected):
            found += [*_lists(group, observation.image), (f"{group}/stddev", observation.stddev)]
        else:
            found.append((f"{group}/value", observation))
    for name, tag in block.tags.items():
        found += _lists(f"tags/{name}", tag) if isinstance(tag, Ragged) else [(f"tags/{name}/value", tag)]
    return found if block.rejected is None else [*found, *_lists("rejected", block.rejected)]


def _lists(group: str, lists: Ragged) -> list[tuple[str, np.ndarray]]:
    return [(f"{group}/offset", lists.offset), *((f"{group}/{name}", c) for name, c in lists.columns.items())]


def _ragged(columns: dict[str, np.ndarray], group: str) -> Ragged:
    prefix = f"{group}/"
    found = {path.removeprefix(prefix): column for path, column in columns.items() if path.startswith(prefix)}
    return Ragged(found.pop("offset"), found)


def _observation(columns: dict[str, np.ndarray], group: str) -> Observation:
    value = columns.get(f"{group}/value")
    if value is not None:
        return value
    image = Ragged(columns[f"{group}/offset"], {name: columns[f"{group}/{name}"] for name in ("index", "mean")})
    return Expected(image, columns[f"{group}/stddev"])


def _tag(columns: dict[str, np.ndarray], group: str) -> Tag:
    value = columns.get(f"{group}/value")
    return value if value is not None else Ragged(columns[f"{group}/offset"], {"content": columns[f"{group}/content"]})
