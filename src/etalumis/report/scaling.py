# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""How the ranks of a training shared its work, from the times of its phases (SC'19, section 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalumis.counting import counted
from etalumis.training.phases import PHASES, read_phases

_MEANING = {
    "read": "waiting for the minibatch",
    "forward": "forward pass",
    "backward": "backward pass",
    "sync_wait": "waiting for other ranks",
    "sync_move": "summing the gradients",
    "update": "clipping and applying them",
}


@dataclass(frozen=True)
class Scaling:
    """What the report says of the ranks of a training.

    Attributes
    ----------
    sentence
        Rate, and what an even distribution of the work would save.
    phases
        (phase, milliseconds per iteration, share), means over iterations and ranks.
    """

    sentence: str
    phases: Sequence[tuple[str, str, str]]


def scaling(path: Path) -> Scaling | None:
    """Return how the ranks shared the work; None if the training has no file of phases, or an empty one.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    if not path.exists():
        return None
    phases = read_phases(path)
    if len(phases.iteration) == 0:
        return None
    # a rank that was absent in some iterations has NaN there
    means = {name: float(np.nanmean(phases.seconds[name])) for name in PHASES}
    total = sum(means.values())
    rate = phases.traces.sum() / (total * len(phases.iteration))
    ranks = phases.traces.shape[1]
    sentence = f"The training processed {rate:,.0f} traces per second on {counted(ranks, 'rank')}."
    if ranks > 1:
        saved = 1.0 - phases.best_s() / phases.actual_s()
        sentence += (
            " Every iteration takes as long as its slowest rank; if the ranks shared the work evenly, it would take "
            f"{100 * saved:.1f} % less time."
        )
    shown = [
        (_MEANING[name], f"{1e3 * seconds:.1f}", f"{100 * seconds / total:.1f} %") for name, seconds in means.items()
    ]
    return Scaling(sentence, shown)
