# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Journal of the traces drawn so far: an append-only file of checksummed frames, from which generation resumes.

If a process is killed while it writes a frame, the checksum fails and the frame is cut off. Appending costs little more
than copying the bytes, so traces are safe long before their trace file is complete.
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
"""Maximum interval between calls of fsync, in seconds: what a power failure may lose; a kill loses nothing."""

_MAGIC = b"ETLMFRM1"
_FRAME = struct.Struct("<8sQQ16s")  # magic, bytes of the header, bytes of the columns, XXH3-128 of both
_KIND = "journal of traces"


class Journal:
    """An open journal, positioned at its end.

    Attributes
    ----------
    dictionary
        Ids of the addresses and distributions of all its traces; appended blocks must use them.
    traces
        Number of traces in it.

    Parameters
    ----------
    path
        The file, which is created if it does not exist.
    provenance, first
        Origin and number in the run of its first trace. A journal of another origin is refused.

    Raises
    ------
    DatasetError
        If the file is of another origin or format.
    StorageError
        If it cannot be read or written.
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
                logger.warning(
                    "%s: its last %d bytes are not a complete frame; their traces are drawn again", path, dropped
                )
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
        """Append the traces of `block`; once this returns, they survive if the process is killed.

        Raises
        ------
        StorageError
            If the file cannot be written; its previous content is kept.
        """
        tags = {name: TagLayout.of_column(tag) for name, tag in block.tags.items()}
        segment = Segment.of_block(Schema.of(block.layouts, tags, block.rejected is not None), block)
        header = {
            "traces": len(block),
            "first": self._origin["first"] + self.traces,
            "layouts": [[layout.name, layout.shape, layout.storage] for layout in block.layouts],
            "tags": [[name, tag.ragged, tag.shape] for name, tag in tags.items()],
            "rows": segment.rows(),
            **self._dictionary_additions(),
        }
        self._write_frame(header, list(segment.arrays()))
        self.traces += len(block)

    def blocks(self) -> Iterator[Block]:
        """Yield the stored traces, frame by frame."""
        position = 0
        while position < self._end:
            with storage_errors(self.path, "read"):
                frame = self._frame(position)
            if frame is None:
                raise DatasetError(f"{self.path}: changed while it was read; is another process writing it?")
            header, content, position = frame
            if "rows" in header:
                yield self._block(header, content)
        self._file.seek(self._end)

    def _block(self, header: dict[str, Any], content: bytes) -> Block:
        layouts = tuple(Layout(name, tuple(shape), storage) for name, shape, storage in header["layouts"])
        tags = {name: TagLayout(ragged, tuple(shape)) for name, ragged, shape in header["tags"]}
        schema = Schema.of(layouts, tags, "rejected" in header["rows"])
        segment = Segment.allocate(schema, header["traces"], header["rows"])
        start = 0
        for array in segment.arrays():
            target = array.reshape(-1).view(np.uint8)
            target[:] = np.frombuffer(content, np.uint8, len(target), start)
            start += len(target)
        return segment.block(self.dictionary)

    def _dictionary_additions(self) -> dict[str, Any]:
        """Return the additions to the dictionary since the last frame."""
        known, priors = self._written
        names, addresses = self.dictionary.names, self.dictionary.addresses
        renamed = {number: names[number] for number in range(known) if names[number] != self._names[number]}
        additions = {
            "addresses": [addresses.name(number) for number in range(known, len(names))],
            "names": names[known:],
            "renamed": renamed,
            "distributions": [[code, list(parameters)] for code, parameters in self.dictionary.distributions[priors:]],
        }
        self._names = list(names)
        self._written = (len(names), len(self.dictionary.distributions))
        return additions

    def _add_to_dictionary(self, header: dict[str, Any]) -> None:
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
            self._file.truncate(self._end)  # the previous frames are still complete
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
        """Read all complete frames; return the position of their end, and the number of bytes after it."""
        size = os.fstat(self._file.fileno()).st_size
        position = 0
        while (frame := self._frame(position)) is not None:
            header, _, position = frame
            if "rows" not in header:
                self._require_origin(header)
            else:
                self._add_to_dictionary(header)
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
                f"{self.path}: contains traces of an interrupted call of another origin ({', '.join(differing)}); "
                "finish that call, or remove the file to discard its traces"
            )

    def _require_remains(self) -> None:
        """Refuse to overwrite a file that is not a journal; the truncated start of one is accepted."""
        self._file.seek(0)
        found = self._file.read(len(_MAGIC)) or b""
        if not _MAGIC.startswith(found) and found.strip(b"\0"):
            raise DatasetError(f"{self.path}: not a {_KIND}, as is kept there during generation; move it away")

    def _frame(self, position: int) -> tuple[dict[str, Any], bytes, int] | None:
        """Return (header, columns, end) of the frame at `position`; None if it is incomplete."""
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
