# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Header of a plain set of traces: addresses, distributions, observations, tags and provenance."""

import json
import re
from dataclasses import dataclass, fields, replace
from math import prod

import numpy as np

from etalumis.distributions import BY_CODE, Categorical
from etalumis.names import require_storable
from etalumis.traces.block import EXPECTED, NOISY, Layout, TagLayout
from etalumis.traces.densities import PriorTable
from etalumis.traces.dictionary import Dictionary
from etalumis.traces.format import ALL, Provenance
from etalumis.traces.plain.layout import ENTRY_KEYS, REJECTED_KEYS, TRACE_KEYS, Plain, group_key, prior_from_json

_ADDRESS = re.compile(r".+__[1-9][0-9]*", re.DOTALL)


@dataclass(frozen=True)
class Header:
    """A checked header.

    Attributes
    ----------
    traces
        Number of traces.
    dictionary
        The addresses and distributions, with the ids of the file.
    numbers
        int64 (distribution,): id in `dictionary` of each distribution of the file, some of which may be equal.
    priors
        The distributions of `dictionary`.
    kinds
        int64 (distribution of `dictionary`,): kind; an address has distributions of one kind only.
    layouts, tags
        The observe statements and the tags.
    provenance
        Provenance, as far as it is in the file.
    nbytes
        Mean bytes of a trace in memory.
    """

    traces: int
    dictionary: Dictionary
    numbers: np.ndarray
    priors: PriorTable
    kinds: np.ndarray
    layouts: tuple[Layout, ...]
    tags: dict[str, TagLayout]
    provenance: Provenance
    nbytes: int


def read_header(plain: Plain) -> Header:
    """Check and return everything except the traces.

    Raises
    ------
    DatasetError
        If the content is not valid; names file and key.
    """
    shape = plain.shape("offset")
    if len(shape) != 1 or shape[0] < 2:
        raise plain.fail("offset", f"expected shape (traces + 1,), with at least one trace, found {shape}")
    traces = shape[0] - 1
    dictionary = Dictionary()
    _add_addresses(plain, dictionary)
    numbers = _add_distributions(plain, dictionary)
    _check_shapes(plain, traces)
    layouts, tags = _layouts(plain, traces), _tag_layouts(plain, traces)
    dense = sum(4 * layout.size for layout in layouts) + sum(8 * prod(tag.shape) for tag in tags.values())
    return Header(
        traces=traces,
        dictionary=dictionary,
        numbers=numbers,
        priors=PriorTable(dictionary.distributions),
        kinds=np.array(
            [code if code != Categorical.code else 1000 + len(p) for code, p in dictionary.distributions], np.int64
        ),
        layouts=layouts,
        tags=tags,
        provenance=_provenance(plain),
        nbytes=64 + dense + 32 * plain.shape("value")[0] // traces,
    )


def _add_addresses(plain: Plain, dictionary: Dictionary) -> None:
    addresses = plain.strings("addresses")
    names = plain.strings("names") if "names" in plain else [""] * len(addresses)
    if len(names) != len(addresses):
        raise plain.fail("names", f"expected {len(addresses)} strings, one per address, found {len(names)}")
    for number, (address, name) in enumerate(zip(addresses, names, strict=True)):
        if not _ADDRESS.fullmatch(address):
            raise plain.fail(
                "addresses",
                f"expected BASE__INSTANCE with an instance number from 1, such as 'mu__Normal__1', found {address!r}",
            )
        if name:
            require_storable(name, f"{plain.path}: key 'names': a draw")
        if dictionary.address(address, name) != number:
            raise plain.fail("addresses", f"expected unique addresses, found {address!r} again")


def _add_distributions(plain: Plain, dictionary: Dictionary) -> np.ndarray:
    numbers = []
    for number, text in enumerate(plain.strings("distributions")):
        try:
            numbers.append(dictionary.distribution(prior_from_json(text)))
        except ValueError as error:
            raise plain.fail("distributions", f"number {number}: {error}") from None
    return np.array(numbers, np.uint32)


def _check_shapes(plain: Plain, traces: int) -> None:
    """Check the shapes and types of all columns except observations and tags."""
    _check_integers(plain, "offset")
    rows = plain.shape("value")[:1]
    _check_columns(plain, {key: key for key in ENTRY_KEYS}, rows, f"{rows}, as 'value' has")
    _check_columns(plain, {key: key for key in TRACE_KEYS}, (traces,), f"({traces},), one number per trace")
    if plain.names("rejected"):
        keys = {key: f"rejected/{key}" for key in REJECTED_KEYS}
        for key in keys.values():
            if key not in plain:
                raise plain.fail(key, "expected this key, since other keys of rejected repetitions exist")
        rows = plain.shape("rejected/value")[:1]
        _check_columns(plain, {"offset": keys.pop("offset")}, (traces + 1,), f"({traces + 1},)")
        _check_columns(plain, keys, rows, f"{rows}, as 'rejected/value' has")


def _check_columns(plain: Plain, keys: dict[str, str], shape: tuple[int, ...], words: str) -> None:
    for name, key in keys.items():
        if key not in plain:
            continue
        if plain.shape(key) != shape:
            raise plain.fail(key, f"expected shape {words}, found {plain.shape(key)}")
        if name not in ("value", "log_prior", "log_likelihood"):
            _check_integers(plain, key, "biu" if name in ("controlled", "replaced") else "iu")
        else:
            plain.require_numbers(key)


def _check_integers(plain: Plain, key: str, kinds: str = "iu") -> None:
    plain.require_numbers(key, kinds)


def _layouts(plain: Plain, traces: int) -> tuple[Layout, ...]:
    layouts: dict[str, Layout] = {}
    for group, storage in (("observation", NOISY), ("expected", EXPECTED)):
        for name in plain.names(group):
            key = group_key(group, name)
            require_storable(name, f"{plain.path}: key {key!r}: an observe statement")
            shape = plain.shape(key) if key in plain else ()
            if not shape or shape[0] != traces or 0 in shape:
                raise plain.fail(key, f"expected an array of shape ({traces}, ...), found {shape or 'none'}")
            plain.require_numbers(key)
            if name in layouts:
                raise plain.fail(key, f"expected either this or 'observation/{name}', found both")
            layouts[name] = Layout(name, shape[1:], storage)
    _check_stddevs(plain, {name for name, x in layouts.items() if x.storage == EXPECTED}, traces)
    if "observations" not in plain:
        return tuple(layouts[name] for name in sorted(layouts))
    order = plain.strings("observations")
    if sorted(order) != sorted(layouts):
        raise plain.fail(
            "observations", f"expected the names {sorted(layouts)}, each once and in any order, found {order}"
        )
    return tuple(layouts[name] for name in order)


def _check_stddevs(plain: Plain, expected: set[str], traces: int) -> None:
    for name in sorted(expected | set(plain.names("stddev"))):
        key = group_key("stddev", name)
        if name not in expected:
            raise plain.fail(key, f"expected 'expected/{name}' as well, found none")
        if key not in plain or plain.shape(key) not in ((), (traces,)):
            found = plain.shape(key) if key in plain else "none"
            raise plain.fail(key, f"expected one number, or an array of shape ({traces},), found {found}")
        plain.require_numbers(key)


def _tag_layouts(plain: Plain, traces: int) -> dict[str, TagLayout]:
    tags = {}
    for name in plain.names("tag"):
        key = group_key("tag", name)
        require_storable(name, f"{plain.path}: key {key!r}: a tag")
        lists = f"{key}/offset" in plain
        content = f"{key}/content" if lists else key
        shape = plain.shape(content) if content in plain else ()
        if lists:
            _check_columns(plain, {"offset": f"{key}/offset"}, (traces + 1,), f"({traces + 1},)")
        elif not shape or shape[0] != traces:
            raise plain.fail(content, f"expected an array of shape ({traces}, ...), found {shape or 'none'}")
        if (lists and len(shape) < 2) or 0 in shape[1:]:
            raise plain.fail(content, f"expected rows of one number or more, found shape {shape}")
        plain.require_numbers(content)
        # values with two or more axes are stored as rows; see `TagShape.from_first_value`
        tags[name] = (
            TagLayout(True, shape[1:] if lists else shape[2:])
            if lists or len(shape) > 2
            else TagLayout(False, shape[1:])
        )
    return tags


def _provenance(plain: Plain) -> Provenance:
    found = Provenance()
    if "provenance" in plain:
        text = "".join(plain.strings("provenance"))
        try:
            given = json.loads(text)
        except ValueError as error:
            raise plain.fail("provenance", f"expected JSON, found {text[:80]!r} ({error})") from None
        known = {field.name: type(getattr(found, field.name)) for field in fields(found)}
        if not isinstance(given, dict) or not all(type(v) is known.get(k) for k, v in given.items()):
            known_fields = ", ".join(f"{name} ({kind.__name__})" for name, kind in known.items())
            raise plain.fail("provenance", f"expected an object with some of {known_fields}, found {text[:200]}")
        found = replace(found, **{**given, "producer": found.producer})
    rejected = bool(plain.names("rejected"))
    if rejected != (found.kept == ALL):
        if not rejected:
            raise plain.fail("provenance", f"'kept' is {found.kept!r}, but there is no 'rejected/value'")
        found = replace(found, kept=ALL)
    return found


assert max(BY_CODE) < 1000, "the kinds of Categorical distributions are numbered from 1000"
