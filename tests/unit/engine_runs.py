# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Short runs of every engine, and how they are interrupted."""

from etalumis.inference import importance, rmh
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.compilation import sample_with_proposals
from etalumis.inference.proposal_controller import ProposalSource
from etalumis.inference.smc import SmcSettings, sample_population


class PriorSession(ProposalSource):
    """Proposes from the prior."""

    def begin(self, lane=0):
        pass

    def propose(self, address, distribution, rng):
        value = distribution.sample(rng)
        return value, distribution.log_prob(value)

    def log_density(self, address, distribution, value):
        return distribution.log_prob(value)


def with_rmh(model, observations, **more):
    return rmh(model, observations, **{"runs": 600, "seed": 1, "init_runs": 5, "thin": 6, **more})


def with_ladder(model, observations, **more):
    return with_rmh(model, observations, betas=(1.0, 0.3, 0.0), **{"runs": 900, "thin": 3, **more})


def with_importance(model, observations, **more):
    return importance(model, observations, **{"runs": 60, "seed": 1, **more})


def with_ic(model, observations, **more):
    return sample_with_proposals(model, observations, PriorSession(), **{"runs": 60, "seed": 1, **more})


def with_smc(model, observations, runs=20, **more):
    settings = SmcSettings(particles=runs, starts=50, entry_moves=2, block_moves=2)
    return sample_population(model, observations, None, seed=1, settings=settings, **more)


ENGINES = [with_rmh, with_ladder, with_importance, with_ic, with_smc]


class Interrupted(Exception):
    pass


class EveryStep(Checkpoint):
    """Is due after every draw, however long a write takes."""

    due = True


class Interrupting:
    """A model that raises before one of its runs."""

    name = "interrupting"

    def __init__(self, model, dies_at):
        self._model, self._left = model, dies_at

    def run(self, execution):
        self._left -= 1
        if not self._left:
            raise Interrupted
        return self._model.run(execution)
