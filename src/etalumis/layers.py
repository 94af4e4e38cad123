# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The layer table: every controlled address of a dataset and its row in the pre-generated network (SC'19, 4.4.1).

All ranks build the same network from the same table. Rows never move: if a table grows, new addresses are appended.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from etalumis.errors import DatasetError
from etalumis.files import digest, read_json, write_json_atomic
from etalumis.traces.reading.dataset import TraceDataset

FORMAT = "etalumis-layers"
VERSION = 1


@dataclass(frozen=True)
class LayerRow:
    """One controlled address: a row of the network's stacked tables.

    Attributes
    ----------
    address
        `<base>__<instance>`.
    name
        Name of the variable in the simulator ("px"); "" if it has none.
    kind
        Distribution kind of the prior ("Uniform", "Categorical", ...). It is part of the address, so it never varies.
    categories
        Number of categories K of a Categorical; 0 for the other kinds.
    count
        Number of occurrences of the address in the dataset.
    """

    address: str
    name: str
    kind: str
    categories: int
    count: int


@dataclass(frozen=True)
class ObservationLayout:
    """One observe statement, as input of the network.

    `stddev` is the standard deviation of a normal observation if it is the same number in all traces (in GeV for the
    calorimeter), else None.
    """

    name: str
    shape: tuple[int, ...]
    stddev: float | None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TagInput:
    """A tag of fixed shape, as input of the network."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class LayerTable:
    """Rows in a fixed order, indexed by address.

    Parameters
    ----------
    rows
        The rows; their positions are the rows of the network.
    observations
        The observe statements, in the order of their concatenation.
    simulator_build_id, config_digest
        Those of the dataset from which the table was built.
    tags
        The tags of fixed shape, which a network may see. They are not part of the digest.
    """

    def __init__(
        self,
        rows: Iterable[LayerRow],
        observations: Sequence[ObservationLayout],
        simulator_build_id: str = "",
        config_digest: str = "",
        tags: Sequence[TagInput] = (),
    ) -> None:
        self.rows = tuple(rows)
        self.observations = tuple(observations)
        self.simulator_build_id = simulator_build_id
        self.config_digest = config_digest
        self.tags = tuple(tags)
        self._row_of = {row.address: position for position, row in enumerate(self.rows)}
        if len(self._row_of) != len(self.rows):
            raise DatasetError("layer table: an address has two rows; every address must have exactly one")

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, address: str) -> int:
        """Return the row of `address`, or -1 if it has none."""
        return self._row_of.get(address, -1)

    @property
    def observation_name(self) -> str:
        """Name of the observation; several names are joined by commas."""
        return ",".join(layout.name for layout in self.observations)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of `Minibatch.observation` without the trace axis; several observations are one flat vector."""
        if len(self.observations) == 1:
            return self.observations[0].shape
        return (sum(layout.size for layout in self.observations),)

    @property
    def digest(self) -> str:
        """Digest of addresses, kinds and observations, 16 hex digits; a network file must have the same."""
        return digest(
            {
                "rows": [[row.address, row.kind, row.categories] for row in self.rows],
                "observations": [[layout.name, list(layout.shape)] for layout in self.observations],
            }
        )

    def observing(self, names: Sequence[str]) -> "LayerTable":
        """Return this table with only the named observe statements, in its own order.

        Raises
        ------
        DatasetError
            If a name is unknown.
        """
        known = [layout.name for layout in self.observations]
        for name in names:
            if name not in known:
                raise DatasetError(f"the traces have no observe statement {name!r}; they have {known}")
        kept = [layout for layout in self.observations if layout.name in names]
        return LayerTable(self.rows, kept, self.simulator_build_id, self.config_digest, self.tags)

    def extends(self, other: "LayerTable") -> bool:
        """Return whether this table begins with the addresses of `other`, in the same rows."""
        return len(self) >= len(other) and all(
            (mine.address, mine.kind, mine.categories) == (theirs.address, theirs.kind, theirs.categories)
            for mine, theirs in zip(self.rows, other.rows, strict=False)
        )

    def first(self, count: int) -> "LayerTable":
        """Return this table with its first `count` rows only."""
        return LayerTable(self.rows[:count], self.observations, self.simulator_build_id, self.config_digest, self.tags)

    def grow(self, other: "LayerTable") -> "LayerTable":
        """Return this table with the new addresses of `other` appended, and the counts of known addresses added.

        Raises
        ------
        DatasetError
            If the observe statements differ.
        """
        mine = [(layout.name, layout.shape) for layout in self.observations]
        theirs = [(layout.name, layout.shape) for layout in other.observations]
        if mine != theirs:
            raise DatasetError(f"layer tables of different observations, {mine} and {theirs}, cannot be joined")
        added = {row.address: row.count for row in other.rows}
        kept = [
            LayerRow(row.address, row.name, row.kind, row.categories, row.count + added.get(row.address, 0))
            for row in self.rows
        ]
        new = [row for row in other.rows if row.address not in self._row_of]
        tags = [tag for tag in self.tags if tag in other.tags]
        return LayerTable(kept + new, self.observations, other.simulator_build_id, other.config_digest, tags)

    def save(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all.

        Raises
        ------
        DatasetError
            If the file cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "digest": self.digest,
            "simulator_build_id": self.simulator_build_id,
            "config_digest": self.config_digest,
            "observations": [asdict(layout) for layout in self.observations],
            "tags": [asdict(tag) for tag in self.tags],
            "rows": [asdict(row) for row in self.rows],
        }
        write_json_atomic(path, content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a table written by `save`.

        Raises
        ------
        DatasetError
            If the file is missing, altered, or of another format or version.
        """
        content = _read_json(Path(path))
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            found = f"{content.get('format')!r} version {content.get('version')!r}"
            raise DatasetError(
                f"{path}: expected {FORMAT!r} version {VERSION}, found {found}; rebuild it with `etalumis layers`"
            )
        try:
            table = cls(
                [LayerRow(**row) for row in content["rows"]],
                [ObservationLayout(o["name"], tuple(o["shape"]), o["stddev"]) for o in content["observations"]],
                content["simulator_build_id"],
                content["config_digest"],
                [TagInput(tag["name"], tuple(tag["shape"])) for tag in content.get("tags", ())],
            )
            recorded = content["digest"]
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{path}: not a complete layer table ({error}); rebuild it with `etalumis layers`"
            ) from None
        if recorded != table.digest:
            raise DatasetError(
                f"{path}: the rows do not match the digest (expected {recorded}, found {table.digest}): "
                "the file was altered; rebuild it with `etalumis layers`"
            )
        return table


def build(paths: Sequence[Path]) -> LayerTable:
    """Return the layer table of a dataset: its controlled addresses, sorted.

    The order depends on the set of addresses only, not on the order of files or traces.
    """
    dataset = TraceDataset(paths)
    rows = [
        LayerRow(address, name, kind, categories, count)
        for address, name, kind, categories, count in dataset.controlled_addresses()
        if count
    ]
    return LayerTable(
        sorted(rows, key=lambda row: row.address),
        [
            ObservationLayout(layout.name, layout.shape, dataset.observation_stddev(layout.name))
            for layout in dataset.layouts
        ],
        dataset.provenance.simulator_build_id,
        dataset.provenance.config_digest,
        [TagInput(name, tag.shape) for name, tag in sorted(dataset.tag_layouts.items()) if not tag.ragged],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such layer table; create it with `etalumis layers`") from None
    except ValueError as error:
        raise DatasetError(f"{path}: not a readable layer table ({error}); rebuild it with `etalumis layers`") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
