# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Names of tags, draws and observe statements: which are allowed, and how files store them.

A name is any text without control characters, such as ``mu/GeV`` or ``.``. HDF5 reserves ``/`` and ``.``, so files
store a name percent-encoded where needed. The encoding is lossless, and leaves nearly all names as they are.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from etalumis.errors import DatasetError

MAX_NAME_BYTES = 4096
_RESERVED = re.compile("/|%(?=2F|25)")
_ESCAPE = re.compile("%(2F|25)")
_NOT_ALLOWED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@functools.lru_cache(maxsize=65_536)
def require_storable(name: str, what: str) -> None:
    """Check that a name can be stored in files and shown in tables and figures.

    Parameters
    ----------
    name
        Name of a tag, a draw or an observe statement.
    what
        What has the name, for the message: "a tag", "a draw".

    Raises
    ------
    DatasetError
        If the name is empty, is too long, or contains a control character, a line break or an unpaired surrogate.
    """
    bad = _NOT_ALLOWED.search(name)
    if not name:
        problem = "the name is empty"
    elif bad is not None:
        problem = f"the name contains the character U+{ord(bad[0]):04X}"
    elif len(to_link_name(name).encode()) > MAX_NAME_BYTES:
        problem = f"the name takes {len(to_link_name(name).encode())} bytes"
    else:
        return
    shown = ascii(name if len(name) <= 80 else f"{name[:80]}...")
    raise DatasetError(
        f"{what} named {shown} cannot be stored: {problem}; expected 1 to {MAX_NAME_BYTES} bytes of text without "
        "control characters: rename it in the model"
    )


def require_one_value_per_name(draws: Mapping[str, float], result: float | None, tags: Mapping[str, Any]) -> None:
    """Check that no tag, named draw or result of a run replaces another one in a posterior file.

    A tag may repeat the value of the draw with its name.

    Parameters
    ----------
    draws, tags
        Values by name.
    result
        Result of the run, which the file keeps as ``result``.

    Raises
    ------
    DatasetError
        If two of them have one name and different values.
    """
    for name in tags:
        if name in draws and not _is_same(tags[name], draws[name]):
            raise DatasetError(
                f"a draw and a tag are both named {name!r} and have different values, {draws[name]} and {tags[name]}; "
                "expected one value per name, as in a posterior file: rename one of them in the model"
            )
    if result is None:
        return
    for what, values in (("draw", draws), ("tag", tags)):
        if "result" in values and not _is_same(values["result"], result):
            raise DatasetError(
                f"a {what} is named 'result' and is {values['result']}, while the result of the run is {result}; "
                f"expected one value per name, as in a posterior file: rename the {what} in the model"
            )


def _is_same(a: Any, b: float) -> bool:
    return np.array_equal(np.ravel(a), [b], equal_nan=True)  # peers send scalars with shape () or (1,)


def quoted(name: str) -> str:
    """Return a name in quotes for a message, escaped if it is not in Unicode's form NFC: it may look like another."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of different names that look the same: other Unicode forms of one text, or U+00B5 and U+03BC."""
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFC", name).replace("\u00b5", "\u03bc"), {})[name] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def to_link_name(name: str) -> str:
    """Return the HDF5 link name of a name: ``/`` becomes ``%2F``, and the name ``.`` becomes ``%2E``.

    The ``%`` of a name that already contains one of these escapes becomes ``%25``, so that `from_link_name` is the
    inverse.
    """
    if name in (".", "%2E"):
        return "%2E" if name == "." else "%252E"
    return _RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", name)


def to_line(address: str) -> str:
    """Return an address without line breaks: a newline becomes ``%0A``; `from_line` is the inverse."""
    return re.sub("\n|%(?=0A|25)", lambda found: f"%{ord(found[0]):02X}", address)


def from_line(line: str) -> str:
    """Return the address that `to_line` encoded."""
    return re.sub("%(0A|25)", lambda found: chr(int(found[1], 16)), line)


def from_link_name(link: str) -> str:
    """Return the name that `to_link_name` encoded."""
    return "." if link == "%2E" else _ESCAPE.sub(lambda found: chr(int(found[1], 16)), link)
