# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The plain layout, a format for exchange with other programs (docs/file-formats.md), and its reader.

A file is HDF5 or npz, with one array per key. HDF5 files are read in windows, arrays of npz files as a whole.
"""

import difflib
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, Self

import h5py
import numpy as np

from etalumis.distributions import BY_CODE, Categorical
from etalumis.errors import DatasetError, EtalumisError
from etalumis.names import from_link_name, to_link_name
from etalumis.traces.densities import prior
from etalumis.traces.dictionary import PriorKey
from etalumis.traces.format import reading

KIND = "plain set of traces"
HDF5_SUFFIXES = (".h5", ".hdf5")
NPZ_SUFFIX = ".npz"

ENTRY_KEYS = ("address", "value", "distribution", "controlled", "replaced")
TRACE_KEYS = ("seed", "index", "draws", "log_prior", "log_likelihood")
REJECTED_KEYS = ("offset", "address", "value", "distribution", "flags", "position", "repetition")
REQUIRED = ("addresses", "distributions", "offset", "address", "value", "distribution")
KEYS = (*REQUIRED, "names", "observations", "provenance", *ENTRY_KEYS[3:], *TRACE_KEYS)
"""Keys at the top level; the others are in `GROUPS`."""
GROUPS = ("observation", "expected", "stddev", "tag", "rejected")

_BY_KIND = {cls.__name__: cls for cls in BY_CODE.values()}


def group_key(group: str, name: str) -> str:
    """Return the key of an observe statement or a tag in one of `GROUPS`."""
    return f"{group}/{to_link_name(name)}"


def prior_from_json(text: str) -> PriorKey:
    """Return (code, parameters) of a distribution such as ``{"kind": "Uniform", "low": 0, "high": 1}``.

    Raises
    ------
    ValueError
        If the kind or a parameter is unknown, or a value is out of range.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"expected JSON, found {text!r} ({error})") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in _BY_KIND:
        raise ValueError(f"expected a kind of {', '.join(_BY_KIND)}, found {text}")
    cls = _BY_KIND[kind]
    names = [field.name for field in fields(cls)]
    if content.keys() != {"kind", *names}:
        raise ValueError(f"expected {kind} with {', '.join(names)}, found {text}")
    given = content["probs"] if cls is Categorical else [content[name] for name in names]
    if not isinstance(given, list) or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in given):
        raise ValueError(f"expected numbers, found {text}")
    parameters = tuple(float(x) for x in given)
    known = prior(cls.code, parameters)
    if cls is Categorical and abs(math.fsum(parameters) - 1.0) > 1e-12:
        parameters = known.parameters  # weights that are not normalised
    return cls.code, parameters


def prior_to_json(distribution: PriorKey) -> str:
    """Inverse of `prior_from_json`, exact to the last bit."""
    code, parameters = distribution
    cls = BY_CODE[code]
    if cls is Categorical:
        return json.dumps({"kind": cls.__name__, "probs": parameters})
    names = [field.name for field in fields(cls)]
    return json.dumps({"kind": cls.__name__, **dict(zip(names, parameters, strict=True))})


class Plain:
    """An open file of the plain layout with valid keys.

    Raises
    ------
    DatasetError
        If it is missing, damaged or of another kind, or if keys are unknown or missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._arrays: Any = None
        self._held: dict[str, np.ndarray] = {}
        self._stream: BinaryIO | None = None
        self.keys: tuple[str, ...] = ()
        try:
            self._open()
            self._check_keys()
        except EtalumisError:
            self.close()
            raise

    def _open(self) -> None:
        if self.path.suffix in HDF5_SUFFIXES:
            with self._reading():
                self._file = h5py.File(self.path, "r")
                self.keys = self._datasets(self._file)
        elif self.path.suffix == NPZ_SUFFIX:
            with self._reading():
                self._stream = self.path.open("rb")  # numpy leaves it open if it is not an npz file
                arrays = np.load(self._stream, allow_pickle=False)
                if not isinstance(arrays, np.lib.npyio.NpzFile):
                    raise ValueError("it is a single array")
                self._arrays, self.keys = arrays, tuple(arrays.files)
        else:
            raise DatasetError(f"{self.path}: expected a file named .h5 or .npz, in the plain layout")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        for opened in (self._file, self._arrays, self._stream):
            if opened is not None:
                opened.close()

    @staticmethod
    def _datasets(file: h5py.File) -> tuple[str, ...]:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return tuple(names)

    @contextmanager
    def _reading(self, key: str = "") -> Iterator[None]:
        with reading(self.path, key, KIND):
            try:
                yield
            except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, MemoryError) as error:
                raise ValueError(f"{type(error).__name__}: {error}") from error

    def _check_keys(self) -> None:
        for key in REQUIRED:
            if key not in self.keys:
                found = ", ".join(sorted(self.keys)[:8]) or "nothing"
                raise self.fail(key, f"expected this key; the file has {found}; docs/file-formats.md has the layout")
        for key in self.keys:
            group, _, name = key.partition("/")
            if (key not in KEYS and group not in GROUPS) or (group in GROUPS and not name):
                near = difflib.get_close_matches(key, [*KEYS, *(f"{g}/{name}" for g in GROUPS)], 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise self.fail(key, f"the plain layout has no such key{hint}")
            if group in GROUPS and group != "rejected":
                self._check_name(key, group)

    def _check_name(self, key: str, group: str) -> None:
        """Check that the name of an observe statement or a tag is a single component of its key."""
        name = key.removeprefix(f"{group}/")
        if group == "tag" and name.endswith(("/offset", "/content")):
            name = name.rpartition("/")[0]
        if to_link_name(from_link_name(name)) != name:
            expected = group_key(group, name)
            raise self.fail(key, f"expected {expected!r}: a '/' in a name is written %2F (docs/file-formats.md)")

    def fail(self, key: str, what: str, trace: int | None = None) -> DatasetError:
        """Return the error for a key, or for one trace in it."""
        where = "" if trace is None else f" of trace {trace}"
        return DatasetError(f"{self.path}: key {key!r}{where}: {what}")

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def names(self, group: str) -> list[str]:
        """Return the names in a group ("tag"), in the order of the file."""
        found = (key.split("/") for key in self.keys if key.startswith(f"{group}/"))
        return list(dict.fromkeys(from_link_name(parts[1]) for parts in found))

    def _array(self, key: str) -> Any:
        if self._file is not None:
            return self._file[key]
        if key not in self._held:
            with self._reading(key):
                self._held[key] = self._arrays[key]
        return self._held[key]

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of an array."""
        return tuple(int(extent) for extent in self._array(key).shape)

    def rows(self, key: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start:stop` of numbers."""
        self.require_numbers(key)
        with self._reading(key):
            return np.asarray(self._array(key)[start:stop])

    def whole(self, key: str) -> np.ndarray:
        """Return a whole array of numbers."""
        self.require_numbers(key)
        with self._reading(key):
            return np.asarray(self._array(key)[()])

    def require_numbers(self, key: str, kinds: str = "biuf") -> None:
        """Raise DatasetError unless the type of the array is of one of the numpy kinds."""
        dtype = self._array(key).dtype
        if dtype.kind not in kinds:
            what = "integers" if kinds == "iu" else "Booleans, 0 or 1" if kinds == "biu" else "numbers"
            raise self.fail(key, f"expected {what}, found the type {dtype}")

    def strings(self, key: str) -> list[str]:
        """Return an array (n,) or () of UTF-8 strings."""
        with self._reading(key):
            content = np.asarray(self._array(key)[()]).reshape(-1).tolist()
        try:
            found = [item.decode() if isinstance(item, bytes) else item for item in content]
        except UnicodeDecodeError as error:
            raise self.fail(key, f"expected UTF-8 ({error})") from None
        if not all(isinstance(item, str) for item in found):
            raise self.fail(key, f"expected strings, found the type {self._array(key).dtype}")
        return found
