# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Categorical quantities: true against most probable value, and whether the probabilities are what they say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etalumis.calibration.cases import CategoryRecord
from etalumis.typing import FloatArray

BIN_EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Edges of the bins of predicted probability."""


class Confusion(NamedTuple):
    """True against most probable category.

    Attributes
    ----------
    codes
        The categories that occur, the most frequent true one first.
    counts
        array (true code, inferred code): number of cases.
    hits, expected, error
        Number of cases in which the most probable category is the true one; its expectation from the posteriors, the
        sum of the largest probabilities p; and the standard deviation sqrt(sum p (1 - p)).
    """

    codes: list[int]
    counts: NDArray[np.int64]
    hits: int
    expected: float
    error: float

    @property
    def total(self) -> int:
        """Number of cases."""
        return int(self.counts.sum())


def confusion(records: Sequence[CategoryRecord]) -> Confusion:
    """Count true against most probable categories; cases without a posterior are left out."""
    pairs = [(r.truth, r.most_probable, r.probabilities) for r in records]
    known = [(truth, best, table[best]) for truth, best, table in pairs if best is not None]
    true_codes = [truth for truth, _, _ in known]
    found = {code for truth, best, _ in known for code in (truth, best)}
    codes = sorted(found, key=lambda code: (-true_codes.count(code), code))
    place = {code: at for at, code in enumerate(codes)}
    counts = np.zeros((len(codes), len(codes)), dtype=np.int64)
    for truth, best, _ in known:
        counts[place[truth], place[best]] += 1
    largest = np.array([p for _, _, p in known])
    variance = float(np.sum(largest * (1.0 - largest)))
    return Confusion(codes, counts, int(np.trace(counts)), float(largest.sum()), math.sqrt(variance))


class Calibrated(NamedTuple):
    """One bin of predicted probabilities.

    Attributes
    ----------
    low, high
        Edges of the bin.
    predictions
        Number of predictions (a category of a case) in it.
    predicted
        Mean predicted probability.
    observed
        Share of the predictions that came true.
    error
        Standard deviation of `observed` if the predictions are right, sqrt(sum p (1 - p)) / predictions.
    """

    low: float
    high: float
    predictions: int
    predicted: float
    observed: float
    error: float


def probability_bins(records: Sequence[CategoryRecord], edges: Sequence[float] = BIN_EDGES) -> list[Calibrated]:
    """Compare predicted probabilities with the frequencies of what they predict.

    Every category that is true or has a probability in any case is a prediction in each case; those that the posterior
    of a case does not contain have the prediction 0. Empty bins are left out.
    """
    known = [record for record in records if record.probabilities]
    codes = sorted({code for record in known for code in (record.truth, *record.probabilities)})
    predicted = np.array([[record.probabilities.get(code, 0.0) for code in codes] for record in known])
    came_true = np.array([[code == record.truth for code in codes] for record in known])
    return _bins(predicted.ravel(), came_true.ravel(), edges)


def _bins(predicted: FloatArray, came_true: NDArray[np.bool_], edges: Sequence[float]) -> list[Calibrated]:
    found = []
    for low, high in itertools.pairwise(edges):
        chosen = (predicted >= low) & ((predicted < high) | ((high == edges[-1]) & (predicted >= high)))
        p, hit = predicted[chosen], came_true[chosen]
        if len(p):
            error = math.sqrt(float(np.sum(p * (1.0 - p)))) / len(p)
            found.append(Calibrated(low, high, len(p), float(p.mean()), float(hit.mean()), error))
    return found
