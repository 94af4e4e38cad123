# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Measurement of what a minibatch costs, for the sampler "balanced", in the first iterations of a training."""

import logging

import numpy as np

from etalumis.training.costs import fit_costs
from etalumis.training.phases import COLUMNS
from etalumis.training.state import TrainingState
from etalumis.training.synchronize import Synchronizer
from etalumis.typing import Array

logger = logging.getLogger(__name__)

MEASURED_ITERATIONS = 40
"""Iterations from which the costs are fitted."""


class CostMeasurement:
    """Collects the phases of iterations on all ranks and fits the costs once.

    Parameters
    ----------
    ranks
        The ranks.
    balanced
        Whether the sampler needs the costs; with one rank, none does.
    """

    def __init__(self, ranks: Synchronizer, balanced: bool) -> None:
        self._ranks, self._needed = ranks, balanced and ranks.comm.size > 1
        self._rows: list[Array] = []

    def add(self, row: Array, state: TrainingState) -> None:
        """Add the row of an iteration (`phases.COLUMNS`); set `state.costs` when there are enough.

        All ranks call it together. The fit is made on one rank, since all must distribute the traces in the same way.
        """
        if not self._needed or state.costs is not None:
            return
        self._rows.append(row)
        if len(self._rows) < MEASURED_ITERATIONS:
            return
        columns = dict(zip(COLUMNS, np.moveaxis(self._ranks.gathered(np.array(self._rows)), 2, 0), strict=True))
        seconds = columns["forward"] + columns["backward"]
        fitted = fit_costs(columns["traces"], columns["tokens"], columns["touched_rows"], seconds)
        state.costs = self._ranks.comm.bcast(fitted, root=0)
        self._rows.clear()
        if self._ranks.comm.rank == 0:
            logger.info("balancing the ranks by %s", state.costs)
