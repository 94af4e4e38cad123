# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Why chains mix slowly: correlated latents, separate modes, chains that stay apart. The numbers behind the advice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from etalumis.diagnostics.chains import as_chains
from etalumis.diagnostics.quantities import Quantity
from etalumis.diagnostics.rounding import is_constant, rounding_error
from etalumis.typing import FloatArray

if TYPE_CHECKING:
    from etalumis.inference.posterior import Posterior

MIN_CORRELATION = 0.9
"""A chain that changes one latent at a time needs about 1 / (1 - r^2) times as many steps: 5 times at r = 0.9."""
MIN_SEPARATION_SD = 2.0
"""Distance between the means of two chains, in standard deviations within a chain, beyond which they hardly overlap."""
MIN_SEPARATION_TV = 0.5
MIN_GAP = 0.3
"""Minimum width of a gap without draws, as a share of their range, for which there are two modes."""
TRIM = 0.005  # of the draws on each side: single outliers make no mode


def describe(posterior: Posterior, quantities: tuple[Quantity, ...]) -> dict[str, Any]:
    """Return what can make the chains of a posterior slow.

    Returns
    -------
    dict
        ``temperatures``: number per chain; ``correlated``: pairs of latents with a rank correlation of 0.9 or more
        within the chains, strongest first; ``separated``: quantity -> mean (or most frequent code) of each chain, if
        two chains hardly overlap; ``modes``: quantity -> ``below``, ``above`` (the edges of a wide gap in its draws)
        and ``crossings`` of the gap by all chains.
    """
    columns = {q.key: q.of(posterior.values) for q in quantities}
    chains = {key: as_chains(column, posterior.chain) for key, column in columns.items() if column is not None}
    categorical = {q.key for q in quantities if q.categorical}
    latents = _latents(posterior.info, quantities)
    # latents come first, so that advice names them rather than what is computed from them
    moving = {key: chains[key] for key in sorted(chains, key=lambda key: key not in latents) if _moves(chains[key])}
    return {
        "temperatures": _temperatures(posterior.info),
        "correlated": correlated({key: rows for key, rows in moving.items() if key in latents - categorical}),
        "separated": {
            key: centres for key, rows in moving.items() if (centres := separated(rows, key in categorical)) is not None
        },
        "modes": {
            key: found for key, rows in moving.items() if key not in categorical and (found := modes(rows)) is not None
        },
    }


def _moves(rows: FloatArray) -> bool:
    return rows.size > 0 and rows.shape[1] > 1 and bool(np.isfinite(rows).all()) and not is_constant(rows)


def _parts(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(info.get("parts", [info]))


def _temperatures(info: Mapping[str, Any]) -> int:
    return min(len(part.get("inverse_temperatures", (1.0,))) for part in _parts(info))


def _latents(info: Mapping[str, Any], quantities: tuple[Quantity, ...]) -> set[str]:
    """Return the keys of the quantities that are latents: RMH counts its moves by the names of latents."""
    moved = {name for part in _parts(info) for name in part.get("acceptance", ())}
    return {q.key for q in quantities if q.key in moved or q.source in moved}


def correlated(chains: Mapping[str, FloatArray]) -> list[dict[str, Any]]:
    """Return the pairs with a strong rank correlation within the chains, strongest first."""
    ranks = {}
    for key, rows in chains.items():
        rank = rankdata(rows).reshape(rows.shape)
        ranks[key] = (rank - rank.mean(axis=1, keepdims=True)).ravel()
    found = []
    for a, b in itertools.combinations(ranks, 2):
        norm = np.linalg.norm(ranks[a]) * np.linalg.norm(ranks[b])
        if norm > 0 and abs(r := float(ranks[a] @ ranks[b] / norm)) >= MIN_CORRELATION:
            found.append({"latents": [a, b], "correlation": r})
    return sorted(found, key=lambda pair: -abs(pair["correlation"]))


def separated(rows: FloatArray, categorical: bool) -> list[float] | None:
    """Return the mean, or most frequent code, of each chain if the two farthest chains hardly overlap, else None."""
    if len(rows) < 2:
        return None
    if categorical:
        codes = np.unique(rows)
        shares = np.stack([(rows == code).mean(axis=1) for code in codes], axis=1)
        apart = max(0.5 * np.abs(p - q).sum() for p, q in itertools.combinations(shares, 2)) >= MIN_SEPARATION_TV
        return [float(codes[i]) for i in shares.argmax(axis=1)] if apart else None
    centres = rows.mean(axis=1)
    within = float(np.sqrt(rows.var(axis=1).mean()))
    apart = float(np.ptp(centres)) > max(MIN_SEPARATION_SD * within, rounding_error(rows))
    return [float(centre) for centre in centres] if apart else None


def modes(rows: FloatArray) -> dict[str, Any] | None:
    """Return the edges of the widest gap in the draws and how often the chains crossed it; None without a wide gap."""
    ordered = np.sort(rows.ravel())
    skip = int(TRIM * ordered.size)
    ordered = ordered[skip : ordered.size - skip]
    gaps = np.diff(ordered)
    widest = int(gaps.argmax())
    if gaps[widest] <= max(MIN_GAP * float(np.ptp(ordered)), rounding_error(rows)):
        return None
    above = rows > 0.5 * (ordered[widest] + ordered[widest + 1])
    crossings = int((above[:, 1:] != above[:, :-1]).sum())
    return {"below": float(ordered[widest]), "above": float(ordered[widest + 1]), "crossings": crossings}
