# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a generation has drawn so far, safe from whatever kills it: an append-only file of checksummed frames.

A frame is whole or not there: the one that a killed process was writing fails its checksum and is cut off. Appending
costs little more than copying the bytes, so traces are safe long before their trace file is finished.
"""

import json
import logging
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash

from etalumis.errors import DatasetError, StorageError
from etalumis.refusals import storage_errors
from etalumis.traces.block import Block, Layout, TagLayout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import Provenance, writing
from etalumis.traces.segments import Schema, Segment

logger = logging.getLogger(__name__)

FORMAT = "etalumis-trace-journal"
VERSION = 3
SYNC_S = 5.0
"""Seconds at most between two calls of fsync: what a power cut costs; a killed process costs nothing."""

_MAGIC = b"ETLMFRM1"
_FRAME = struct.Struct("<8sQQ16s")  # magic, bytes of the header, bytes of the columns, XXH3-128 of both
_KIND = "journal of traces"


class Journal:
    """An open journal, at its end.

    Attributes
    ----------
    dictionary
        Numbers of the addresses and distributions of all its traces; blocks to append are in these numbers.
    traces
        How many traces it holds.

    Parameters
    ----------
    path
        The file; made where there is none.
    provenance, first
        Origin and number in the run of its first trace. A journal of another origin is refused.

    Raises
    ------
    DatasetError
        Where the file is of another origin or format, or cannot be read or written.
    """

    def __init__(self, path: Path, provenance: Provenance, first: int) -> None:
        self.path, self.traces = path, 0
        self.dictionary = Dictionary()
        self._names: list[str] = []
        self._written = (0, 0)
        self._origin = {"format": FORMAT, "version": VERSION, "first": first, **provenance.as_dict()}
        self._synced = time.monotonic()
        with writing(path, _KIND):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        try:
            with storage_errors(path, "read"):
                self._end, dropped = self._recover()
            if dropped:
                logger.warning("%s: its last %d bytes are no whole frame; their traces are drawn again", path, dropped)
            with writing(path, _KIND):
                self._file.truncate(self._end)
                self._file.seek(self._end)
            if not self._end:
                self._write_frame(self._origin, [])
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: Block) -> None:
        """Add the traces of `block`; when this returns, a killed process loses none of them.

        Raises
        ------
        DatasetError
            Where the file cannot be written; what it held before is still there.
        """
        tags = {name: TagLayout.of_column(tag) for name, tag in block.tags.items()}
        segment = Segment.of_block(Schema.of(block.layouts, tags, block.rejected is not None), block)
        header = {
            "traces": len(block),
            "first": self._origin["first"] + self.traces,
            "layouts": [[layout.name, layout.shape, layout.storage] for layout in block.layouts],
            "tags": [[name, tag.ragged, tag.shape] for name, tag in tags.items()],
            "rows": segment.rows(),
            **self._news(),
        }
        self._write_frame(header, list(segment.arrays()))
        self.traces += len(block)

    def blocks(self) -> Iterator[Block]:
        """Yield what it holds, frame by frame."""
        position = 0
        while position < self._end:
            with storage_errors(self.path, "read"):
                frame = self._frame(position)
            if frame is None:
                raise DatasetError(f"{self.path}: changed while it was read; is another process at work on it?")
            header, content, position = frame
            if "rows" in header:
                yield self._block(header, content)
        self._file.seek(self._end)

    def _block(self, header: dict[str, Any], content: bytes) -> Block:
        layouts = tuple(Layout(name, tuple(shape), storage) for name, shape, storage in header["layouts"])
        tags = {name: TagLayout(ragged, tuple(shape)) for name, ragged, shape in header["tags"]}
        schema = Schema.of(layouts, tags, "rejected" in header["rows"])
        segment = Segment.reserved(schema, header["traces"], header["rows"])
        start = 0
        for array in segment.arrays():
            target = array.reshape(-1).view(np.uint8)
            target[:] = np.frombuffer(content, np.uint8, len(target), start)
            start += len(target)
        return segment.block(self.dictionary)

    def _news(self) -> dict[str, Any]:
        """Return what the dictionary has learnt since the last frame."""
        known, priors = self._written
        names, addresses = self.dictionary.names, self.dictionary.addresses
        renamed = {number: names[number] for number in range(known) if names[number] != self._names[number]}
        news = {
            "addresses": [addresses.name(number) for number in range(known, len(names))],
            "names": names[known:],
            "renamed": renamed,
            "distributions": [[code, list(parameters)] for code, parameters in self.dictionary.distributions[priors:]],
        }
        self._names = list(names)
        self._written = (len(names), len(self.dictionary.distributions))
        return news

    def _learn(self, header: dict[str, Any]) -> None:
        for address, name in zip(header["addresses"], header["names"], strict=True):
            self.dictionary.address(address, name)
        for number, name in header["renamed"].items():
            self.dictionary.names[int(number)] = name
        for code, parameters in header["distributions"]:
            self.dictionary.distribution((code, tuple(parameters)))
        self._names = list(self.dictionary.names)
        self._written = (len(self._names), len(self.dictionary.distributions))

    def _write_frame(self, header: dict[str, Any], columns: list[np.ndarray]) -> None:
        parts: list[bytes | memoryview] = [json.dumps(header).encode()]
        parts += [np.ascontiguousarray(column).reshape(-1).view(np.uint8).data for column in columns if column.size]
        digest = xxhash.xxh3_128()
        for part in parts:
            digest.update(part)
        sizes = len(parts[0]), sum(len(part) for part in parts[1:])
        frame = [_FRAME.pack(_MAGIC, *sizes, digest.digest()), *parts]
        try:
            with writing(self.path, _KIND):
                self._write_all(frame)
                self._sync()
        except StorageError:
            self._file.truncate(self._end)  # the frames before it are still whole
            raise
        self._end = self._file.tell()

    def _write_all(self, parts: list[bytes | memoryview]) -> None:
        waiting = [memoryview(part) for part in parts]
        while waiting:
            written = os.writev(self._file.fileno(), waiting[:512])
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if written:
                waiting[0] = waiting[0][written:]

    def _sync(self) -> None:
        now = time.monotonic()
        if now - self._synced > SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = now

    def _recover(self) -> tuple[int, int]:
        """Read the frames that are whole; return where they end, and how many bytes are behind them."""
        size = os.fstat(self._file.fileno()).st_size
        position = 0
        while (frame := self._frame(position)) is not None:
            header, _, position = frame
            if "rows" not in header:
                self._require_origin(header)
            else:
                self._learn(header)
                self.traces += header["traces"]
        if size and not position:
            self._require_remains()
        return position, size - position

    def _require_origin(self, header: dict[str, Any]) -> None:
        differing = [
            f"{key}: {header.get(key)!r} instead of {value!r}"
            for key, value in self._origin.items()
            if header.get(key) != value
        ]
        if differing:
            raise DatasetError(
                f"{self.path}: holds traces of an interrupted call of another origin ({', '.join(differing)}); finish "
                "that call, or remove the file to give its traces up"
            )

    def _require_remains(self) -> None:
        """Refuse to overwrite a file that is no journal; the start of one that was cut off is one."""
        self._file.seek(0)
        found = self._file.read(len(_MAGIC)) or b""
        if not _MAGIC.startswith(found) and found.strip(b"\0"):
            raise DatasetError(
                f"{self.path}: expected a {_KIND}, which is kept there while they are generated; this is something "
                "else: move it away"
            )

    def _frame(self, position: int) -> tuple[dict[str, Any], bytes, int] | None:
        """Return (header, columns, end) of the frame at `position`; None where it is not whole."""
        self._file.seek(position)
        start = self._file.read(_FRAME.size) or b""
        if len(start) < _FRAME.size:
            return None
        magic, header_bytes, column_bytes, expected = _FRAME.unpack(start)
        left = os.fstat(self._file.fileno()).st_size - position - _FRAME.size
        if magic != _MAGIC or header_bytes + column_bytes > left:
            return None
        content = self._read(header_bytes + column_bytes)
        if xxhash.xxh3_128_digest(content) != expected:
            return None
        header: dict[str, Any] = json.loads(content[:header_bytes])
        return header, content[header_bytes:], position + _FRAME.size + len(content)

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._file.read(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
