# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Spill files between the two passes of sorting: traces by bucket, as the bytes of their columns.

A spill file holds the traces of one portion of the inputs. Each piece of it contains traces of one bucket: their
lengths and columns, concatenated, so that reading a bucket takes one read per load of each portion. The pieces are
followed by their table, a JSON header, its size and a magic number, so an incomplete file of a killed process is
recognised.
"""

import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from etalumis.errors import DatasetError
from etalumis.refusals import storage_error
from etalumis.traces.block import Block
from etalumis.traces.format import reading, writing
from etalumis.traces.segments import Schema, Segment

FORMAT = "etalumis-sort-spill"
PIECE_BYTES = 1 << 23
"""Approximate maximum bytes of a piece, which is copied into sorted order before it is written."""
_KIND = "spill file"
_TAIL = struct.Struct("<Q8s")
_MAGIC = b"ETLSPILL"
_BUFFER_BYTES = 1 << 20
_BUCKET, _OFFSET, _TRACES, _CHECKSUM, _ROWS = range(5)


@dataclass(frozen=True, slots=True)
class Piece:
    """Traces of one bucket in a spill file."""

    offset: int
    traces: int
    checksum: int
    rows: dict[str, int]


class AlteredSpill(DatasetError):
    """A spill file does not contain what was written; `path` is its path."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        """Return the message."""
        return f"{self.path}: {self.what}"


class SpillWriter:
    """An open spill file; use `open_spill`."""

    def __init__(self, file: BinaryIO, path: Path, schema: Schema) -> None:
        self._file, self._path, self._schema = file, path, schema
        self._table: list[list[int]] = []

    def append(self, block: Block, buckets: np.ndarray) -> None:
        """Write the traces of a block, given the bucket of each."""
        order = np.argsort(buckets, kind="stable")
        present, first = np.unique(buckets[order], return_index=True)
        size = max(1, len(block) * PIECE_BYTES // max(1, _nbytes(block, self._schema)))
        for bucket, start, stop in zip(
            present.tolist(), first.tolist(), [*first[1:].tolist(), len(order)], strict=True
        ):
            for begin in range(start, stop, size):
                rows = order[begin : min(begin + size, stop)]
                with writing(self._path, _KIND):
                    self._write(bucket, Segment.of_block(self._schema, block.take(rows)))

    def _write(self, bucket: int, segment: Segment) -> None:
        offset, checksum = self._file.tell(), xxhash.xxh3_64()
        for array in segment.arrays():
            if array.size:
                content = _bytes_of(np.ascontiguousarray(array))
                checksum.update(content)
                self._file.write(content)
        rows = segment.rows()
        self._table.append([bucket, offset, len(segment), _signed(checksum.intdigest()), *rows.values()])

    def close(self, header: dict[str, Any]) -> None:
        """Write table and header."""
        table = np.array(self._table, np.int64).tobytes()
        text = json.dumps(
            {**header, "format": FORMAT, "pieces": len(self._table), "table": xxhash.xxh3_64_hexdigest(table)}
        ).encode()
        with writing(self._path, _KIND):
            for part in (table, text, _TAIL.pack(len(text), _MAGIC)):
                self._file.write(part)


def _nbytes(block: Block, schema: Schema) -> int:
    return schema.nbytes(len(block), Segment.of_block(schema, block).rows())


def _bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of a nonempty array, for reading or writing."""
    return array.reshape(-1).view(np.uint8).data


def _signed(number: int) -> int:
    return int(np.uint64(number).view(np.int64))


@contextmanager
def open_spill(path: Path, schema: Schema, header: dict[str, Any]) -> Iterator[SpillWriter]:
    """Yield a writer. `path` appears, complete, if the block ends without an error, and not at all otherwise.

    The file is temporary and not synced; if a power failure damages it, its checksums fail.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    with writing(path, _KIND):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary, file = Path(name), os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)
    try:
        writer = SpillWriter(file, path, schema)
        yield writer
        writer.close(header)
        with writing(path, _KIND):
            file.close()
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the buffered data is discarded
            file.close()
        temporary.unlink(missing_ok=True)
        raise


class Spill:
    """A complete spill file.

    Attributes
    ----------
    header
        The header given to the writer, with the format and the size of the table.

    Raises
    ------
    DatasetError
        If it is incomplete.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self._schema = path, schema
        with reading(path, kind=_KIND), path.open("rb") as file:
            end = file.seek(-_TAIL.size, os.SEEK_END)
            size, magic = _TAIL.unpack(file.read(_TAIL.size))
            if magic != _MAGIC:
                raise ValueError("its end is missing")
            file.seek(end - size)
            self.header: dict[str, Any] = json.loads(file.read(size))
            shape = (int(self.header["pieces"]), _ROWS + len(schema.lists))
            file.seek(end - size - shape[0] * shape[1] * 8)
            table = file.read(shape[0] * shape[1] * 8)
            if self.header["format"] != FORMAT or xxhash.xxh3_64_hexdigest(table) != self.header["table"]:
                raise ValueError("its table was altered")
        self._table = np.frombuffer(table, np.int64).reshape(shape)

    def pieces(self, bucket: int) -> list[Piece]:
        """Return the pieces of a bucket."""
        return [
            Piece(row[_OFFSET], row[_TRACES], row[_CHECKSUM], dict(zip(self._schema.lists, row[_ROWS:], strict=True)))
            for row in self._table[self._table[:, _BUCKET] == bucket].tolist()
        ]

    def fill(self, segment: Segment, piece: Piece) -> None:
        """Read a piece into a segment of matching size; raise AlteredSpill if it differs from what was written."""
        checksum = xxhash.xxh3_64()
        try:
            with self.path.open("rb") as file:
                file.seek(piece.offset)
                for array in segment.arrays():
                    if array.size:
                        content = _bytes_of(array)
                        if file.readinto(content) != len(content):
                            raise AlteredSpill(self.path, "it ends in the middle of a piece")
                        checksum.update(content)
        except OSError as error:
            altered = AlteredSpill(self.path, f"it cannot be read ({error})")
            raise storage_error(self.path, "read", error) or altered from error
        if _signed(checksum.intdigest()) != piece.checksum:
            raise AlteredSpill(
                self.path,
                f"the traces at byte {piece.offset} were altered: their checksum does not match",
            )
