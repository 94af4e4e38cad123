# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Convergence of Markov chains: R-hat, effective sample size, Monte Carlo error (the paper's Section 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from etalumis.diagnostics import arviz_calls
from etalumis.diagnostics.quantiles import quantile_table
from etalumis.diagnostics.rounding import is_constant
from etalumis.inference.export import rows_by_chain
from etalumis.typing import FloatArray

MIN_SHARE = 0.01  # codes with a smaller share of the draws have no R-hat and no ESS: too few draws


def as_chains(values: FloatArray, chain: NDArray[np.int64]) -> FloatArray:
    """Arrange draws by chain; longer chains are cut to the length of the shortest.

    Parameters
    ----------
    values : array (draw,)
    chain : array (draw,)
        Number of each draw's chain; the draws of a chain are in order.

    Returns
    -------
    array (chain, draw)
    """
    return values[rows_by_chain(chain)]


def summarise_continuous(chains: FloatArray) -> dict[str, Any]:
    """Return R-hat (rank and classic), ESS (bulk and tail, in draws), Monte Carlo error, mean, sd and quantiles.

    Mean and quantiles are those of the finite draws; ``absent_fraction`` is the share of the others (nan if a trace
    lacks the quantity). R-hat and ESS are nan if there are any.
    """
    flat = chains.ravel()
    present = flat[np.isfinite(flat)]
    constant = is_constant(present)
    size = arviz_calls.ess(chains, "bulk")
    return {
        "rhat": arviz_calls.rhat(chains, "rank"),
        "rhat_classic": arviz_calls.rhat(chains, "identity"),
        "ess": size,
        "ess_tail": arviz_calls.ess(chains, "tail"),
        "mcse": arviz_calls.mcse_mean(chains),
        "autocorrelation_draws": flat.size / size if size > 0 else float("nan"),
        "mean": float((present[0] if constant else present.mean()) if present.size else np.nan),
        "sd": float((0.0 if constant else present.std()) if present.size else np.nan),
        "quantiles": quantile_table(present, np.ones_like(present)),
        "constant": constant,
        "absent_fraction": 1.0 - present.size / flat.size if flat.size else 1.0,
    }


def summarise_categorical(chains: FloatArray) -> dict[str, Any]:
    """Return the probability of each code with its Monte Carlo error, and R-hat and ESS of the worst code.

    An R-hat of the codes themselves would depend on their numbering. So R-hat and ESS are computed for the indicator
    1{x = code} of each code with at least 1 % of the draws, and the worst values are returned.
    """
    flat = chains.ravel()
    present = flat[np.isfinite(flat)]
    codes, counts = np.unique(present, return_counts=True)
    probabilities = counts / max(flat.size, 1)
    frequent = codes[probabilities >= MIN_SHARE]
    levels = [(chains == code).astype(float) for code in frequent]
    rhats = [arviz_calls.rhat(level, "split") for level in levels]
    classic = [arviz_calls.rhat(level, "identity") for level in levels]
    sizes = [arviz_calls.ess(level, "mean") for level in levels]
    return {
        "rhat": _worst(rhats, max),
        "rhat_classic": _worst(classic, max),
        "ess": _worst(sizes, min),
        "probabilities": {str(int(code)): float(p) for code, p in zip(codes, probabilities, strict=True)},
        "mcse": {str(int(code)): arviz_calls.mcse_mean(level) for code, level in zip(frequent, levels, strict=True)},
        "constant": len(codes) == 1,
        "absent_fraction": 1.0 - present.size / flat.size if flat.size else 1.0,
    }


def _worst(numbers: list[float], choose: Any) -> float:
    """Return the largest or smallest number that is not nan; nan if there is none."""
    known = [number for number in numbers if not np.isnan(number)]
    return float(choose(known)) if known else float("nan")
