# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Read one trace file: header, windows of traces as blocks, checksums."""

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from etalumis.errors import DatasetError
from etalumis.traces.block import EXPECTED, Block, Expected, Layout, Observation, Tag, TagLayout
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import (
    ENTRY_DTYPES,
    FORMAT,
    TRACE_DTYPES,
    VERSION,
    Checksum,
    Provenance,
    file_checksum,
    reading,
)
from etalumis.traces.ragged import Ragged

SLAB_BYTES = 1 << 24


class Shard:
    """An open trace file whose header has been checked.

    Numbers of addresses and distributions in the blocks it gives are those of `dictionary`; give several shards the
    same one, and their blocks can be joined.

    Raises
    ------
    DatasetError
        Where the file is missing, truncated, not a trace file, of another version, or its header was altered.
    """

    def __init__(self, path: Path, dictionary: Dictionary | None = None) -> None:
        self.path = Path(path)
        with reading(self.path):
            self._file = h5py.File(self.path, "r")
        try:
            with reading(self.path):
                self._check_header()
                self.provenance = Provenance.from_attributes(self.path, self._file.attrs)
                self.count = int(self._file.attrs["traces"])
                self.layouts = tuple(self._layout(name) for name in self._file["observations"])
                self.tag_layouts = {name: self._tag_layout(name) for name in self._file["tags"]}
            self._adopt(dictionary if dictionary is not None else Dictionary())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of traces."""
        return self.count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check_header(self) -> None:
        attributes = self._file.attrs
        found = attributes.get("format")
        if found != FORMAT:
            raise DatasetError(f"{self.path}: not a trace file: expected format {FORMAT!r}, found {found!r}")
        version = int(attributes["version"])
        if version != VERSION:
            what = "newer: update etalumis" if version > VERSION else "older: generate the traces again"
            raise DatasetError(
                f"{self.path}: format version {version}, but this program reads version {VERSION}; the file is {what}"
            )
        expected, computed = attributes["checksum"], file_checksum(self._file)
        if expected != computed:
            raise DatasetError(
                f"{self.path}: its header was altered: expected checksum {expected}, found {computed}; "
                "delete the file and generate it again"
            )

    def _layout(self, name: str) -> Layout:
        attributes = self._file[f"observations/{name}"].attrs
        return Layout(name, tuple(int(extent) for extent in attributes["shape"]), str(attributes["storage"]))

    def _tag_layout(self, name: str) -> TagLayout:
        item = self._file[f"tags/{name}"]
        if isinstance(item, h5py.Group):
            return TagLayout(True, tuple(item["content"].shape[1:]))
        return TagLayout(False, tuple(item.shape[1:]))

    @property
    def checksum(self) -> str:
        """Checksum of the whole file: attributes and the checksums of all datasets."""
        return str(self._file.attrs["checksum"])

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Paths of all datasets."""
        names: list[str] = []
        self._file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return tuple(names)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all datasets in memory, uncompressed."""
        return sum(int(self._file[name].nbytes) for name in self.columns)

    @property
    def entries(self) -> int:
        """Number of entries of all traces."""
        return self.rows("entries/value")

    def rows(self, name: str) -> int:
        """Return the length of a dataset."""
        return len(self._file[name])

    def whole(self, name: str) -> np.ndarray:
        """Return a whole dataset whose checksum has been checked."""
        with reading(self.path, name):
            content = np.asarray(self._file[name][()])
            self._compare(name, [content])
        return content

    def slice(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start:stop` of a dataset; its checksum is checked only where that is all of it."""
        if start == 0 and stop == self.rows(name):
            return self.whole(name)
        with reading(self.path, name):
            return np.asarray(self._file[name][start:stop])

    def check_content(self) -> None:
        """Check every dataset's checksum, in slabs of bounded memory.

        Raises
        ------
        DatasetError
            Naming the file and the first column that is truncated or altered.
        """
        for name in self.columns:
            with reading(self.path, name):
                self._compare(name, self._slabs(name))

    def _slabs(self, name: str) -> Iterator[np.ndarray]:
        dataset = self._file[name]
        rows = max(1, SLAB_BYTES * max(1, len(dataset)) // max(1, dataset.nbytes))
        for start in range(0, len(dataset), rows):
            yield np.asarray(dataset[start : start + rows])

    def _compare(self, name: str, slabs: Iterator[np.ndarray] | list[np.ndarray]) -> None:
        checksum = Checksum()
        for slab in slabs:
            checksum.update(slab)
        expected = self._file[name].attrs["checksum"]
        if checksum.hex() != expected:
            raise DatasetError(
                f"{self.path}: column {name!r} was altered: expected checksum {expected}, found {checksum.hex()}; "
                "delete the file and generate it again"
            )

    def _adopt(self, dictionary: Dictionary) -> None:
        """Read the file's dictionary into `dictionary` and keep how numbers translate."""
        self.dictionary = dictionary
        addresses, names = self._strings("addresses"), self._strings("names")
        pairs = zip(addresses, names, strict=True)
        self._address_numbers = np.array([dictionary.address(a, n) for a, n in pairs], np.uint32)
        codes, offset = self.whole("distributions/code").tolist(), self.whole("distributions/offset").tolist()
        parameters = self.whole("distributions/parameters").tolist()
        self._distribution_numbers = np.array(
            [
                dictionary.distribution((code, tuple(parameters[offset[i] : offset[i + 1]])))
                for i, code in enumerate(codes)
            ],
            np.uint32,
        )

    def _strings(self, name: str) -> list[str]:
        offset, content = self.whole(f"{name}/offset").tolist(), self.whole(f"{name}/content").tobytes()
        with reading(self.path, name):
            return [content[a:b].decode() for a, b in pairwise(offset)]

    @cached_property
    def _offsets(self) -> dict[str, np.ndarray]:
        """Offsets of every ragged group, read once."""
        groups = {name: f"observations/{name}" for name in (x.name for x in self.layouts if x.storage == EXPECTED)}
        groups |= {f"tag {name}": f"tags/{name}" for name, layout in self.tag_layouts.items() if layout.ragged}
        return {group: self.whole(f"{group}/offset") for group in ("traces", *groups.values())}

    def read(self, start: int = 0, stop: int | None = None) -> Block:
        """Return traces `start:stop`; a whole file's checksums are checked on the way."""
        end = self.count if stop is None else stop
        entries = self._ragged("traces", "entries", tuple(ENTRY_DTYPES), start, end)
        for name, numbers in (("address", self._address_numbers), ("distribution", self._distribution_numbers)):
            with reading(self.path, f"entries/{name}"):
                entries.columns[name] = _translate(numbers, entries.columns[name])
        traces = {name: self.slice(f"traces/{name}", start, end) for name in ("type", *TRACE_DTYPES)}
        return Block(
            self.dictionary,
            entries,
            traces,
            self.layouts,
            {layout.name: self._observation(layout, start, end) for layout in self.layouts},
            {name: self.tag(name, start, end) for name in self.tag_layouts},
        )

    def _ragged(self, offsets_in: str, group: str, columns: tuple[str, ...], start: int, stop: int) -> Ragged:
        offset = self._offsets[offsets_in][start : stop + 1]
        first, last = int(offset[0]), int(offset[-1])
        return Ragged(offset - first, {name: self.slice(f"{group}/{name}", first, last) for name in columns})

    def _observation(self, layout: Layout, start: int, stop: int) -> Observation:
        group = f"observations/{layout.name}"
        if layout.storage != EXPECTED:
            return self.slice(f"{group}/value", start, stop).reshape(stop - start, layout.size)
        image = self._ragged(group, group, ("index", "mean"), start, stop)
        return Expected(image, self.slice(f"{group}/stddev", start, stop))

    def tag(self, name: str, start: int = 0, stop: int | None = None) -> Tag:
        """Return one tag of traces `start:stop`."""
        end = self.count if stop is None else stop
        if self.tag_layouts[name].ragged:
            return self._ragged(f"tags/{name}", f"tags/{name}", ("content",), start, end)
        return self.slice(f"tags/{name}", start, end)


def _translate(numbers: np.ndarray, ids: np.ndarray) -> np.ndarray:
    if len(ids) and int(ids.max()) >= len(numbers):
        raise ValueError(f"it refers to number {int(ids.max())}, but the dictionary has {len(numbers)}")
    return numbers[ids] if len(numbers) else ids
