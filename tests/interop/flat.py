# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""PPX messages without a library: flatbuffers written with `struct`, from the public schema.

Shares nothing with the package, with flatc's code or with the flatbuffers library, so that the byte fixtures and the
peers made with it say what the wire is, not what our code does. A `Layout` is one of the ways in which real writers
place the same message: where vtables lie, whether tables share them, in which order fields follow each other, whether
default values are written.
"""

import struct
from dataclasses import dataclass
from math import prod

TENSOR = [("data", "doubles"), ("shape", "ints")]
TWO_TEXTS = [("address", "string"), ("name", "string")]
TABLES = {
    "Handshake": [("system_name", "string")],
    "HandshakeResult": [("system_name", "string"), ("model_name", "string")],
    "Run": [],
    "RunResult": [("result", "Tensor")],
    "Sample": [*TWO_TEXTS, ("distribution_type", "ubyte"), ("distribution", "union"), ("control", "bool")],
    "SampleResult": [("result", "Tensor")],
    "Observe": [*TWO_TEXTS, ("distribution_type", "ubyte"), ("distribution", "union"), ("value", "Tensor")],
    "ObserveResult": [],
    "Tag": [*TWO_TEXTS, ("value", "Tensor")],
    "TagResult": [],
    "Reset": [],
}
"""Fields in the order of their numbers (PPX 1.0); the order of the tables is that of the union MessageBody, from 1."""
TABLES_0_1 = {**TABLES, "Sample": [*TABLES["Sample"], ("replace", "bool")]}
"""The same in PPX 0.1."""
DISTRIBUTIONS = {
    "Normal": ("mean", "stddev"), "Uniform": ("low", "high"), "Categorical": ("probs",), "Poisson": ("rate",),
    "Bernoulli": ("probs",), "Beta": ("concentration1", "concentration0"), "Exponential": ("rate",),
    "Gamma": ("concentration", "rate"), "LogNormal": ("loc", "scale"), "Binomial": ("total_count", "probs"),
    "Weibull": ("scale", "concentration"),
}  # fmt: skip
"""Parameters (tensors) of the members of the union Distribution, from 1."""
DEFAULTS = {"control": True, "replace": False, "distribution_type": 0}
SIZES = {"ubyte": 1, "bool": 1}


@dataclass(frozen=True)
class Layout:
    """Order of the parts of a message; `vtables`: "before" each table, "shared" (before the first user) or "end"."""

    vtables: str = "shared"
    reverse: bool = False
    defaults: bool = False
    trimmed: bool = True
    identifier: bool = False


LAYOUTS = {
    "builder": Layout(),
    "builder PPXF": Layout(identifier=True),
    "reversed, own vtables": Layout("before", reverse=True),
    "everything written": Layout("before", defaults=True, trimmed=False),
    "vtables last PPXF": Layout("end", reverse=True, defaults=True, identifier=True),
}


class _Block:
    """Some bytes of the message and their references: (position, target, whether it is a vtable)."""

    def __init__(self, content: bytes, align: int, lead: int = 0) -> None:
        self.content, self.align, self.lead = bytearray(content), align, lead
        self.references: list[tuple[int, _Block, bool]] = []
        self.at = 0


class Writer:
    """Lays out one message."""

    def __init__(self, layout: Layout, tables=TABLES) -> None:
        self.layout, self.tables = layout, tables
        self.blocks: list[_Block] = []
        self.vtables: dict[bytes, _Block] = {}
        self.late: list[_Block] = []

    def message(self, kind: str, fields: dict) -> bytes:
        """Return the bytes of one message; `fields` as in `TABLES`, a distribution as (name, {parameter: tensor})."""
        number = list(self.tables).index(kind) + 1
        head = _Block(bytes(4) + (b"PPXF" if self.layout.identifier else b""), 4)
        self.blocks.append(head)
        root = self.table([("body_type", "ubyte"), ("body", "union")], {"body_type": number, "body": (kind, fields)})
        head.references.append((0, root, False))
        return self._placed()

    def table(self, schema, values: dict) -> _Block:
        present = [
            (slot, name, kind) for slot, (name, kind) in enumerate(schema) if self._is_written(name, values.get(name))
        ]
        # Doubles occur only in vectors: with fields of four bytes first, no padding is needed.
        order = sorted(present, key=lambda entry: SIZES.get(entry[2], 4), reverse=True)
        if self.layout.reverse:
            order.sort(key=lambda entry: (-SIZES.get(entry[2], 4), -entry[0]))
        slots, content, children = [0] * len(schema), bytearray(4), []
        for slot, name, kind in order:
            slots[slot] = len(content)
            if kind in SIZES:
                content.append(int(values[name]))
            else:
                children.append((len(content), kind, values[name]))
                content += bytes(4)
        while self.layout.trimmed and slots and slots[-1] == 0:
            slots.pop()
        vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), len(content), *slots)
        target = self._vtable(vtable)
        block = _Block(content, 4)
        block.references.append((0, target, True))
        self.blocks.append(block)
        for position, kind, value in children:
            block.references.append((position, self.child(kind, value), False))
        return block

    def child(self, kind: str, value) -> _Block:
        if kind == "union":
            name, fields = value
            schema = self.tables.get(name) or [(field, "Tensor") for field in DISTRIBUTIONS.get(name, ())]
            return self.table(schema, fields)
        if kind == "Tensor":
            return self.table(TENSOR, {"data": value["data"], "shape": value["shape"]})
        if kind == "string":
            encoded = value.encode()
            block = _Block(struct.pack("<I", len(encoded)) + encoded + b"\0", 4)
        elif kind == "doubles":
            block = _Block(struct.pack(f"<I{len(value)}d", len(value), *value), 8, lead=4)
        else:
            block = _Block(struct.pack(f"<I{len(value)}i", len(value), *value), 4)
        self.blocks.append(block)
        return block

    def _is_written(self, name: str, value) -> bool:
        return value is not None and (self.layout.defaults or name not in DEFAULTS or value != DEFAULTS[name])

    def _vtable(self, content: bytes) -> _Block:
        if self.layout.vtables != "before" and content in self.vtables:
            return self.vtables[content]
        block = self.vtables[content] = _Block(content, 2)
        (self.late if self.layout.vtables == "end" else self.blocks).append(block)
        return block

    def _placed(self) -> bytes:
        data = bytearray()
        for block in [*self.blocks, *self.late]:
            # A vector of doubles is aligned behind its length.
            while (len(data) + block.lead) % block.align:
                data.append(0)
            block.at = len(data)
            data += block.content
        for block in [*self.blocks, *self.late]:
            for position, target, is_vtable in block.references:
                place = block.at + position
                struct.pack_into("<i", data, place, place - target.at if is_vtable else target.at - place)
        return bytes(data)


def message(kind: str, fields: dict | None = None, layout: Layout = LAYOUTS["builder"], tables=TABLES) -> bytes:
    """Return one message, e.g. ``message("SampleResult", {"result": tensor(0.5)})``."""
    return Writer(layout, tables).message(kind, fields or {})


def tensor(*data: float, shape=None) -> dict:
    """Return a tensor as a field; the default shape is (number of data,)."""
    dimensions = [len(data)] if shape is None else list(shape)
    assert prod(dimensions) == len(data) or not data
    return {"data": list(data), "shape": dimensions}


def law(name: str, *parameters: dict) -> dict:
    """Return the two fields of a distribution."""
    fields = dict(zip(DISTRIBUTIONS[name], parameters, strict=True))
    return {"distribution_type": list(DISTRIBUTIONS).index(name) + 1, "distribution": (name, fields)}


# ---------------------------------------------------------------------- reading without checks, as public peers do


def _field(data: bytes, table: int, slot: int) -> int:
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * slot >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    found = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]
    return table + found if found else 0


def _follow(data: bytes, field: int) -> int:
    return field + struct.unpack_from("<I", data, field)[0]


def kind_of(data: bytes) -> str:
    """Return the name of a message's body."""
    return list(TABLES)[data[_field(data, _follow(data, 0), 0)] - 1]


def result_of(data: bytes) -> tuple[list[float], list[int]]:
    """Return data and shape of the tensor in a SampleResult or RunResult."""
    body = _follow(data, _field(data, _follow(data, 0), 1))
    held = _follow(data, _field(data, body, 0))
    found = []
    for slot, code in ((0, "d"), (1, "i")):
        vector = _follow(data, _field(data, held, slot))
        count = struct.unpack_from("<I", data, vector)[0]
        found.append(list(struct.unpack_from(f"<{count}{code}", data, vector + 4)))
    return found[0], found[1]
