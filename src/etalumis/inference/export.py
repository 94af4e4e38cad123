# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posteriors in the formats of other libraries: ArviZ and xarray, pandas, and draws of equal weight."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from etalumis import seeds
from etalumis.errors import InferenceError
from etalumis.inference.entry_selection import ALL, EntryAddress, unmatched
from etalumis.log_weights import effective_sample_size, systematic_resampling
from etalumis.names import to_link_name
from etalumis.typing import Array

if TYPE_CHECKING:
    import pandas
    import xarray

    from etalumis.inference.posterior import Posterior

P = TypeVar("P", bound="Posterior")
logger = logging.getLogger(__name__)

MAX_CELLS = 2**27
"""Maximum size of an array (draw, address), in numbers: 1 GiB."""


def rows_by_chain(chain: Array) -> Array:
    """Return integers (chain, draw): the indices of the draws of each chain, cut to the length of the shortest.

    Parameters
    ----------
    chain
        Integers (draw,): number of each draw's chain; the draws of a chain are in order.
    """
    rows = [np.flatnonzero(chain == number) for number in np.unique(chain)]
    length = min(map(len, rows), default=0)
    return np.array([found[:length] for found in rows], dtype=np.intp).reshape(len(rows), length)


def resample(posterior: P, number: int, seed: int | None = None) -> P:
    """Return `number` draws of equal weight, chosen by their weights.

    Systematic resampling keeps the draws in order, so that those of Markov chains are thinned evenly. Their
    log weight is the log evidence, or 0 for MCMC.

    Parameters
    ----------
    posterior
        The posterior.
    number
        Number of draws. More than the effective sample size add no information.
    seed
        Seed of the choice; None for the seed of the posterior.

    Raises
    ------
    InferenceError
        If the number is less than 1, or every draw has weight zero.
    """
    if number < 1:
        raise InferenceError(f"resample: expected at least 1 draw, found {number}")
    weight = posterior.weight
    if number > (size := effective_sample_size(weight)):
        logger.warning(
            "%d draws of a posterior with an effective sample size of %.1f: some draws occur several times",
            number,
            size,
        )
    rng = seeds.generator(posterior.info.get("seed") or 0 if seed is None else seed, "posteriors/resample", number)
    rows = systematic_resampling(rng, weight, number)
    return replace(
        posterior,
        values={name: column[rows] for name, column in posterior.values.items()},
        log_weight=np.full(number, 0.0 if posterior.is_markov else posterior.log_evidence),
        log_likelihood=posterior.log_likelihood[rows],
        log_prior=posterior.log_prior[rows],
        chain=posterior.chain[rows],
        trace_type=posterior.trace_type[rows],
        info={**posterior.info, "resampled": number},
        lineage=None if posterior.lineage is None else posterior.lineage[rows],
        entries=None if posterior.entries is None else posterior.entries.select(rows),
    )


def to_arviz(posterior: Posterior, entries: Sequence[str] = ()) -> xarray.DataTree:
    """Return the posterior as ArviZ stores it.

    Markov chains have the dimensions (chain, draw), weighted draws have the dimension (sample,). Resampled draws are
    one chain.
    The groups are `posterior` (values, and entries by address), `sample_stats` (log_weight, log_likelihood, log_prior,
    trace_type, and lineage for smc) and `constant_data` (the truth, if it is known). A slash in a name becomes ``%2F``.

    Parameters
    ----------
    posterior
        The posterior.
    entries
        Patterns of the kept entries to include; `all` for all of them. They are NaN in draws without them, and have the
        attributes `name`, `kind`, `stack` and `instance`.

    Raises
    ------
    InferenceError
        If a pattern matches no kept entry, or the entries would be too large as columns.
    """
    kept = _kept(posterior, entries)
    resampled = "resampled" in posterior.info
    dimensions = ["chain", "draw"] if resampled or posterior.is_markov else ["sample"]
    rows: Array = np.arange(len(posterior))
    if resampled:
        rows = rows[None]
    elif posterior.is_markov:
        rows = rows_by_chain(posterior.chain)
    if rows.size < len(posterior):
        logger.warning(
            "the chains differ in length: %d of %d draws are left out", len(posterior) - rows.size, len(posterior)
        )
    columns = {**posterior.values, **(posterior.entries.columns(kept) if posterior.entries is not None else {})}
    statistics = {name: column[rows] for name, column in _statistics(posterior).items()}
    groups = {
        "posterior": {_variable(name, dimensions): column[rows] for name, column in columns.items()},
        "sample_stats": statistics,
    }
    if posterior.truth:
        groups["constant_data"] = {_variable(name, dimensions): value for name, value in posterior.truth.items()}
    about = {"engine": posterior.engine, "producer": "etalumis", "info": json.dumps(posterior.info, allow_nan=False)}
    arviz_base: Any = importlib.import_module("arviz_base")  # without type annotations
    tree: xarray.DataTree = arviz_base.from_dict(groups, sample_dims=dimensions, attrs={"/": about})
    for entry in kept:
        tree["posterior"][_variable(entry.address, dimensions)].attrs.update(
            name=entry.name, kind=entry.kind, stack=entry.stack, instance=entry.instance
        )
    return tree


def to_pandas(posterior: Posterior, entries: Sequence[str] = ()) -> pandas.DataFrame:
    """Return the posterior as a table with one row per draw.

    The columns are chain, those of `sample_stats` in `to_arviz`, then the values, then the entries by address. Arrays
    have a column per element, such as ``momentum[0]``.

    Parameters
    ----------
    posterior, entries
        As in `to_arviz`.

    Raises
    ------
    InferenceError
        As `to_arviz`, and if pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InferenceError("to_pandas: pandas is not installed; install it with `pip install pandas`") from None
    kept = _kept(posterior, entries)
    table: dict[str, Array] = {"chain": posterior.chain, **_statistics(posterior)}
    reserved = list(table)
    for name, column in posterior.values.items():
        for index in np.ndindex(column.shape[1:]):
            suffix = f"[{','.join(map(str, index))}]" if index else ""
            table[_distinct(name, reserved) + suffix] = column[:, *index]
    if posterior.entries is not None:
        table.update(posterior.entries.columns(kept))
    return pandas.DataFrame(table, index=pandas.RangeIndex(len(posterior), name="draw"))


def _kept(posterior: Posterior, patterns: Sequence[str]) -> list[EntryAddress]:
    """Return the kept entries that match any pattern."""
    if not patterns:
        return []
    if posterior.entries is None:
        raise InferenceError(
            "this posterior keeps no entries by address; set the configuration key posteriors.entries, such as [all], "
            "and create the posterior again"
        )
    addresses = posterior.entries.addresses
    if missing := [pattern for pattern in unmatched(addresses, patterns) if pattern != ALL]:
        examples = "; ".join(entry.address for entry in addresses[:3]) or "none"
        raise InferenceError(
            f"no kept entry matches {missing[0]!r}: expected a pattern of an address or a name; the posterior keeps "
            f"{len(addresses)} addresses, such as {examples}"
        )
    kept = posterior.entries.matching(patterns)
    if len(kept) * len(posterior) > MAX_CELLS:
        raise InferenceError(
            f"{len(kept)} addresses x {len(posterior)} draws are too many for columns (at most {MAX_CELLS} numbers); "
            "give narrower patterns, resample fewer draws, or use the ragged columns of Posterior.entries"
        )
    return kept


def _variable(name: str, dimensions: Sequence[str]) -> str:
    """Return the name of a variable; xarray allows neither slashes nor the name of a dimension."""
    return to_link_name(_distinct(name, dimensions))


def _distinct(name: str, reserved: Sequence[str]) -> str:
    return f"{name} (value)" if name in reserved else name


def _statistics(posterior: Posterior) -> dict[str, Array]:
    """Return what describes each draw, besides its values and its chain."""
    found = {name: getattr(posterior, name) for name in ("log_weight", "log_likelihood", "log_prior")}
    if posterior.lineage is not None:
        found["lineage"] = posterior.lineage
    return {**found, "trace_type": posterior.trace_type.astype(str)}
