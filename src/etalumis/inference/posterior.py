# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posteriors: draws of named latents and tags with their log weights, and the posterior file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from etalumis.errors import DatasetError, InferenceError
from etalumis.inference import export
from etalumis.inference.checked_columns import read_column, write_column
from etalumis.inference.draws import Draw, columns, concatenate_columns
from etalumis.inference.kept_entries import KeptEntries
from etalumis.inference.predictive import PredictiveCheck
from etalumis.log_weights import normalise
from etalumis.names import from_link_name
from etalumis.products import write_hdf5
from etalumis.refusals import storage_error
from etalumis.typing import Array

if TYPE_CHECKING:
    import pandas
    import xarray

FORMAT, VERSION = "etalumis-posterior", 3
ENGINES = ("prior", "importance", "rmh", "network_rmh", "ic", "smc")
MARKOV_ENGINES = frozenset({"rmh", "network_rmh"})
_COLUMNS = ("log_weight", "log_likelihood", "log_prior", "chain", "trace_type")
_LINEAGE = "lineage"
MUST_AGREE = {
    "config_digest": "simulator settings",
    "simulator_build_id": "simulator",
    "observation_digest": "observation",
    "network_digest": "network",
}
"""Keys of `info` that must be equal in posteriors to be joined, and what they identify."""


@dataclass
class Posterior:
    """Weighted draws from a posterior.

    Attributes
    ----------
    engine
        "prior", "importance", "rmh", "network_rmh", "ic" or "smc".
    values
        Name -> (draw, ...): tags of fixed shape, named entries (NaN if a trace lacks them), and `result`.
    log_weight
        (draw,) log weights: 0 for MCMC; -inf for draws of weight zero, which are kept, since the evidence and the
        effective sample size depend on their number.
    log_likelihood, log_prior
        (draw,) sum_n log p(y_n | x), and sum_i log p(x_i) over accepted entries (without -log Z of the scopes).
    chain
        (draw,) number of the chain or job.
    trace_type
        (draw,) 32 hex digits as bytes.
    info
        Metadata as JSON values: seed, runs, rates, acceptance, provenance.
    truth
        Name -> value in the trace that the observation was simulated from, if it is known.
    lineage
        (draw,) for smc: number of the first run of its job that the draw descends from. Draws of one lineage are
        dependent, those of different lineages nearly independent. None for other engines.
    entries
        Controlled entries by address; None if none were selected (config key `posteriors.entries`).
    predictive
        The posterior predictive check; None if it was not made.
    """

    engine: str
    values: dict[str, Array]
    log_weight: Array
    log_likelihood: Array
    log_prior: Array
    chain: Array
    trace_type: Array
    info: dict[str, Any] = field(default_factory=dict)
    truth: dict[str, Array] = field(default_factory=dict)
    lineage: Array | None = None
    entries: KeptEntries | None = None
    predictive: PredictiveCheck | None = None

    def __len__(self) -> int:
        return len(self.log_weight)

    @classmethod
    def from_draws(
        cls, engine: str, draws: list[Draw], log_weight: list[float], chain: int, info: dict[str, Any]
    ) -> Self:
        """Create a posterior from draws; names whose shape varies between draws are listed in `info`."""
        values, left_out = columns(draws)
        kept = [draw.entries for draw in draws if draw.entries is not None]
        return cls(
            engine=engine,
            values=values,
            log_weight=np.asarray(log_weight, dtype=np.float64),
            log_likelihood=np.array([draw.log_likelihood for draw in draws], dtype=np.float64),
            log_prior=np.array([draw.log_prior for draw in draws], dtype=np.float64),
            chain=np.full(len(draws), chain, dtype=np.int64),
            trace_type=np.array([draw.trace_type.encode() for draw in draws], dtype="S32"),
            info={**info, "left_out_values": left_out},
            entries=KeptEntries.from_draws(kept) if kept else None,
        )

    @property
    def weight(self) -> Array:
        """(draw,) weights that sum to one.

        Raises
        ------
        InferenceError
            If every draw has weight zero.
        """
        if np.max(self.log_weight, initial=-np.inf) == -np.inf:
            raise InferenceError(
                f"all {len(self)} draws of this {self.engine} posterior have weight zero: no run could have produced "
                "the observation. Take more runs, or check that the observation belongs to this model."
            )
        return normalise(self.log_weight)

    @property
    def is_markov(self) -> bool:
        """Whether the draws are Markov chains; otherwise they are independent and weighted."""
        return self.engine in MARKOV_ENGINES

    @property
    def log_evidence(self) -> float:
        """Estimate of log p(y): the log of the mean weight. Not available for MCMC."""
        if self.is_markov:
            raise InferenceError("MCMC draws do not estimate the evidence; use importance sampling or ic")
        return float(np.logaddexp.reduce(self.log_weight) - np.log(len(self)))

    def mean(self, name: str) -> Array:
        """Return the weighted mean of a value over the draws that have it; its shape is that of the value."""
        column = self.values[name]
        has = ~np.isnan(column).reshape(len(self), -1).any(axis=1)
        return np.average(column[has], axis=0, weights=self.weight[has])

    def difference(
        self, engine: str, seed: int | None, chains: Iterable[int], origin: Mapping[str, Any] | None = None
    ) -> str | None:
        """Describe how this posterior differs from another one in engine, seed, chains (jobs) or origin, else None.

        The other one may have additional chains. Of `origin`, the keys of `MUST_AGREE` are compared.
        """
        if self.engine != engine:
            return f"is a posterior of engine {self.engine!r}, not {engine!r}"
        if self.info.get("seed") != seed:
            return f"is a posterior of seed {self.info.get('seed')}, not {seed}"
        found, expected = (sorted({int(number) for number in numbers}) for numbers in (self.chain, chains))
        if not set(found) <= set(expected):
            what = "chain" if engine in MARKOV_ENGINES else "job"
            return f"is a posterior of {what} {_listed(found)}, not {_listed(expected)}"
        for key, source in MUST_AGREE.items():
            if origin is not None and key in origin and self.info.get(key) != origin[key]:
                return f"is a posterior from another {source}" if key != "config_digest" else f"has other {source}"
        return None

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Join posteriors of the same engine, model and observation: chains, or jobs of one estimate.

        Raises
        ------
        InferenceError
            If the parts do not belong together, or two of them are the same chain or job.
        """
        _check_joinable(parts)
        joined = cls.join_pieces(parts)
        checks = [part.predictive for part in parts if part.predictive is not None]
        joined.predictive = PredictiveCheck.concatenate(checks) if len(checks) == len(parts) else None
        joined.info = {**_joined_info([part.info for part in parts]), "left_out_values": joined.info["left_out_values"]}
        return joined

    @classmethod
    def join_pieces(cls, parts: list[Self]) -> Self:
        """Join consecutive pieces of one chain or job; `info` is that of the last one."""
        values, misfits = concatenate_columns([(part.values, len(part)) for part in parts])
        # a name whose shape varied within one piece has no column in the whole, even if another piece has one
        lineages = [part.lineage for part in parts if part.lineage is not None]
        left_out = set(misfits).union(*(part.info.get("left_out_values", ()) for part in parts))
        return cls(
            engine=parts[0].engine,
            values={name: column for name, column in values.items() if name not in left_out},
            log_weight=np.concatenate([part.log_weight for part in parts]),
            log_likelihood=np.concatenate([part.log_likelihood for part in parts]),
            log_prior=np.concatenate([part.log_prior for part in parts]),
            chain=np.concatenate([part.chain for part in parts]),
            trace_type=np.concatenate([part.trace_type for part in parts]),
            info={**parts[-1].info, "left_out_values": sorted(left_out)},
            truth=parts[0].truth,
            lineage=np.concatenate(lineages) if len(lineages) == len(parts) else None,
            entries=_joined_entries(parts),
        )

    def resample(self, number: int, seed: int | None = None) -> Self:
        """Return `number` draws of equal weight, chosen by their weights; see `export.resample`."""
        return export.resample(self, number, seed)

    def to_arviz(self, entries: Sequence[str] = ()) -> "xarray.DataTree":
        """Return the posterior as ArviZ stores it, with the kept entries that match a pattern; see `export`."""
        return export.to_arviz(self, entries)

    def to_pandas(self, entries: Sequence[str] = ()) -> "pandas.DataFrame":
        """Return a table with one row per draw, with the kept entries that match a pattern; see `export`."""
        return export.to_pandas(self, entries)

    def save(self, path: Path) -> None:
        """Write the posterior as HDF5 (docs/file-formats.md), whole or not at all.

        Raises
        ------
        StorageError
            If it cannot be written.
        """

        def fill(file: h5py.File) -> None:
            file.attrs["format"], file.attrs["version"], file.attrs["engine"] = FORMAT, VERSION, self.engine
            file.attrs["producer"] = "etalumis"
            for name in _COLUMNS + ((_LINEAGE,) if self.lineage is not None else ()):
                write_column(file, name, getattr(self, name))
            groups = {"values": self.values, "truth": self.truth}
            if self.entries is not None:
                groups["entries"] = self.entries.as_columns()
            if self.predictive is not None:
                groups["predictive"] = self.predictive.as_columns()
            for group, columns_ in groups.items():
                file.create_group(group)
                for name, column in columns_.items():
                    write_column(file[group], name, np.asarray(column))
            write_column(file, "info", np.frombuffer(json.dumps(self.info, allow_nan=False).encode(), dtype=np.uint8))

        write_hdf5(Path(path), fill)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a posterior.

        Raises
        ------
        DatasetError
            If the file is not a posterior, has an unknown version, or is truncated or altered.
        """
        path = Path(path)
        try:
            with h5py.File(path) as file:
                return cls(**_read_all(path, file))
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such posterior file; create it with `etalumis posteriors`") from None
        except (OSError, KeyError, ValueError) as error:
            damaged = DatasetError(
                f"{path}: cannot be read as a posterior ({error}); it is truncated or not an HDF5 file. Delete it "
                "and create it again."
            )
            raise storage_error(path, "read", error) or damaged from error


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _read_all(path: Path, file: Any) -> dict[str, Any]:
    found = (file.attrs.get("format"), file.attrs.get("version"))
    if found[0] != FORMAT:
        raise DatasetError(f"{path}: expected a posterior file (format {FORMAT!r}), found format {found[0]!r}")
    if found[1] not in range(1, VERSION + 1):
        raise DatasetError(
            f"{path}: version {found[1]} of {FORMAT}; this program reads versions up to {VERSION}. Make the file again "
            "with this program, or read it with the one that wrote it."
        )
    fields: dict[str, Any] = {
        name: read_column(path, file, name) for name in _COLUMNS + ((_LINEAGE,) if _LINEAGE in file else ())
    }
    decode = _name_of_version_1 if found[1] == 1 else from_link_name
    for group in ("values", "truth"):
        fields[group] = {decode(link): read_column(path, file[group], link) for link in file[group]}
    fields["engine"] = str(file.attrs["engine"])
    fields["info"] = json.loads(read_column(path, file, "info").tobytes())
    if "entries" in file:
        group = file["entries"]
        kept = {name: read_column(path, group, name) for name in group}
        fields["entries"] = KeptEntries.from_columns(kept, len(fields["log_weight"]))
    if "predictive" in file:
        group = file["predictive"]
        fields["predictive"] = PredictiveCheck.from_columns(
            {from_link_name(link): read_column(path, group, link) for link in group}
        )
    return fields


def _name_of_version_1(link: str) -> str:
    """Return the name that a file of version 1 stored as `link`, with backslashes for slashes."""
    return link.replace("\\", "/")


def _check_joinable(parts: list[Any]) -> None:
    if not parts:
        raise InferenceError("no posteriors to join; give at least one file")
    first = parts[0]
    for part in parts[1:]:
        if part.engine != first.engine:
            raise InferenceError(f"cannot join posteriors of engine {first.engine!r} and {part.engine!r}")
        for key in MUST_AGREE:
            if part.info.get(key) != first.info.get(key):
                raise InferenceError(
                    f"cannot join posteriors: {key} is {first.info.get(key)!r} in one and {part.info.get(key)!r} in "
                    "another. Create them with the same configuration."
                )
        if part.truth.keys() != first.truth.keys():
            raise InferenceError("cannot join posteriors with different known truths")
    selected = {part.entries.patterns if part.entries is not None else () for part in parts if len(part)}
    if len(selected) > 1:
        shown = " and ".join(str(list(patterns)) for patterns in sorted(selected))
        raise InferenceError(
            f"cannot join posteriors that keep different entries: posteriors.entries is {shown}. Create them with the "
            "same configuration."
        )
    numbers = [int(number) for part in parts for number in np.unique(part.chain)]
    if len(numbers) != len(set(numbers)):
        raise InferenceError(
            f"cannot join posteriors: chain or job numbers {numbers} are not distinct, so some draws would count twice"
        )


def _joined_entries(parts: list[Any]) -> KeptEntries | None:
    """Return the kept entries of all parts; parts without draws, such as those of a burn-in, have none."""
    kept = [part.entries for part in parts if part.entries is not None]
    return KeptEntries.concatenate(kept) if kept else None


def _joined_info(infos: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values that all parts share, sums of the runs, and all values of each part under `parts`."""
    shared = {key: value for key, value in infos[0].items() if all(info.get(key) == value for info in infos[1:])}
    totals = {key: sum(info.get(key, 0) for info in infos) for key in ("runs", "simulator_runs", "failures")}
    return {**shared, **totals, "wall_s": sum(info.get("wall_s", 0.0) for info in infos), "parts": infos}
