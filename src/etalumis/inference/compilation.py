# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference compilation: importance sampling with a trained network's proposals (SC'19, section 4.2).

Weights of rejection scopes
---------------------------
A prior loop returns (x, u) with density p(x, u) 1{accepted} / Z, where Z is its acceptance probability in its context.
Weighting only the last repetition by p / q, as if the draws were not in a loop, ignores Z: the posterior is then wrong
wherever Z depends on an earlier latent. Here the network proposes only the FIRST SHOT of a scope: the entries of
repetition 0, including the draw of the acceptance test. If the loop asks for a second repetition, the weight is zero.
Otherwise the scope contributes

    log p(x, u) - log q(x, u) + log R,      R = number of repetitions of an independent prior run of this scope

in the same context (a run that replays everything before the scope). R is geometric with E[R] = 1 / Z, and independent
of the proposal given its context, so the expected weight is exact: a draw (x, u) that is proposed with density q, and
kept if accepted, has the mean weight p(x, u) 1{accepted} / (Z q(x, u)). Products over scopes are unbiased too, since
each R is drawn independently given the trace.

If the network does not propose the first entry of a scope (it is uncontrolled, or its address is unknown), the model's
loop draws the whole scope, which then contributes nothing. This choice depends only on the context of the scope, so it
does not introduce a bias.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from etalumis import seeds
from etalumis.errors import InferenceError
from etalumis.execution import Model
from etalumis.inference.acceptance import InverseAcceptance
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.importance import sample_weighted
from etalumis.inference.observations import Observations
from etalumis.inference.posterior import Posterior
from etalumis.inference.proposal_controller import ProposalSource
from etalumis.inference.proposed_runs import run_proposer
from etalumis.inference.runner import ModelRunner
from etalumis.inference.scope_choice import ScopeChoice, Scopes
from etalumis.trace import Trace
from etalumis.typing import Array


def compilation(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    network: Any,
    *,
    runs: int,
    seed: int,
    job: int = 0,
    scopes: Scopes = "auto",
    replays: int = 1,
    shared_replays: int = 0,
    in_flight: int = 64,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior by weighting runs that a trained `network` proposes.

    The network sees the observations as in its training: a single array as it is, several ones flattened and joined.
    If the model takes proposals, values are proposed for up to `in_flight` runs at a time; the draws are the same for
    any number. See `sample_with_proposals` for the other parameters, the weight and the errors.
    """
    if in_flight < 1:
        raise InferenceError(f"ic: expected in_flight >= 1, found {in_flight}")
    session = network.session(network_input(network.layers, Observations(observations)), lanes=in_flight)
    return sample_with_proposals(
        model,
        observations,
        session,
        runs=runs,
        seed=seed,
        job=job,
        scopes=scopes,
        replays=replays,
        shared_replays=shared_replays,
        retries=retries,
        entries=entries,
        checkpoint=checkpoint,
    )


def sample_with_proposals(
    model: Model | Callable[[], float | None],
    observations: Mapping[str, Any],
    session: ProposalSource,
    *,
    runs: int,
    seed: int,
    job: int = 0,
    scopes: Scopes = "auto",
    replays: int = 1,
    shared_replays: int = 0,
    retries: int = 3,
    entries: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Posterior:
    """Sample the posterior by weighting runs that `session` proposes.

    With P the proposed entries and S the proposed scopes::

        log w = sum_n log p(y_n | x) + sum_{i in P} [log p(x_i) - log q(x_i)] + sum_{s in S} log mean_r R_{s,r}

    and log w = -inf if a proposed scope asks for a second repetition. Uncontrolled entries, and entries whose address
    the network does not know, are drawn from the prior and contribute nothing.

    Parameters
    ----------
    model
        The model to run, or a Python function with the statements of `etalumis.models`.
    observations
        Name of the observe statement -> value, see `Observations`.
    session
        Source of the proposed values.
    runs
        Number of runs. Each gives one draw; draws of weight zero are kept.
    seed, job
        Run i draws from (seed, "posteriors/ic/<job>", i).
    scopes
        "first-shot": the network proposes rejection scopes; "prior": the model's loops draw them; "auto": the loops
        draw those that seldom accept (`etalumis.inference.scope_choice`).
    replays
        Number of prior runs R_{s,r} to average for each proposed scope, if the weight of the run is not zero anyway.
    shared_replays
        Largest number of prior runs to average for all runs with the same context, for scopes whose earlier controlled
        entries are all discrete; 0: none are shared. See `etalumis.inference.acceptance` for when this is exact.
    retries
        Maximum number of consecutive restarts of a failed simulator.
    entries
        Controlled entries to keep by address: patterns as in `EntrySelection`.
    checkpoint
        Checkpoint to resume from and to write; the draws are the same as without an interruption.

    Raises
    ------
    InferenceError
        If the observations do not fit the model, a likelihood or a proposal density is NaN, or replaying the beginning
        of a trace gives different entries.
    """
    if replays < 1 or shared_replays < 0:
        raise InferenceError(f"ic: expected replays >= 1 and shared_replays >= 0, found {replays} and {shared_replays}")
    stage = f"posteriors/ic/{job}"
    runner = ModelRunner(model, Observations(observations), seeds.derive(seed, stage, 0), retries)
    counts = new_counts()

    def draws(first: int) -> Iterator[tuple[Trace, float]]:
        return weighted_runs(
            runner, session, range(first, runs), seed, stage, scopes=scopes, replays=replays,
            shared_replays=shared_replays, counts=counts,
        )  # fmt: skip

    posterior = sample_weighted(
        "ic",
        runner,
        draws,
        runs=runs,
        seed=seed,
        stage=stage,
        job=job,
        counts=counts,
        entries=entries,
        checkpoint=checkpoint,
    )
    posterior.info.update(
        scopes=scopes,
        replays=replays,
        shared_replays=shared_replays,
        replay_runs=counts["replay_runs"],
        lost_share=counts["lost"] / runs,
        unknown_address_fraction=counts["unknown"] / max(counts["asked"], 1),
    )
    return posterior


def new_counts() -> dict[str, Any]:
    """Return the counts of `weighted_runs` before the first run.

    They are the numbers of entries that the network was `asked` for and whose address was `unknown`, of `lost` runs and
    of `replay_runs`, the number of scopes by context, and the contexts whose scope is `drawn` by the model.
    """
    return {**dict.fromkeys(("asked", "unknown", "lost", "replay_runs"), 0), "contexts": {}, "drawn": {}}


def weighted_runs(
    runner: ModelRunner,
    session: ProposalSource,
    indices: range,
    seed: int,
    stage: str,
    *,
    scopes: Scopes,
    replays: int,
    shared_replays: int,
    counts: dict[str, Any],
) -> Iterator[tuple[Trace, float]]:
    """Yield the trace and the log weight of each run, in order; see `sample_with_proposals`.

    Run i draws from (seed, stage, i). `counts` is updated; see `new_counts`.
    """
    before = counts["replay_runs"]  # of an interrupted job, if it is resumed
    inverse_acceptance = InverseAcceptance(runner, seed, stage, replays, shared_replays, counts["contexts"])
    choice = ScopeChoice(runner, seed, stage, scopes, counts["drawn"])

    def begin(first: int, last: int) -> None:
        draws = f"draw {first}" if first == last else f"draws {first} to {last}"
        runner.begin(seeds.derive(seed, stage, first), f"{draws} of {stage}")

    runs = run_proposer(runner, session, lambda i: seeds.generator(seed, stage, i), begin, choice)
    for run in runs(indices):
        counts["asked"] += run.asked
        counts["unknown"] += run.unknown
        counts["lost"] += run.lost
        log_weight = run.log_weight + run.trace.log_likelihood
        if log_weight > -math.inf:
            for scope in run.proposed_scopes:
                log_weight += inverse_acceptance.log_estimate(run.trace, scope, run.rng)
        counts["replay_runs"] = before + choice.replay_runs + inverse_acceptance.replay_runs
        yield run.trace, log_weight


def network_input(layers: Any, observations: Observations) -> Array:
    """Return the observation as the network was trained to see it.

    Raises
    ------
    InferenceError
        If the network was trained on another observe statement or another shape.
    """
    arrays = []
    for layout in layers.observations:
        if layout.name not in observations.names:
            raise InferenceError(
                f"the network was trained on the observation {layout.name!r}; found {observations.names}. Give an "
                "observation of this name too, or a network that was trained without it (observation.name chooses the "
                "observe statements that a network sees)."
            )
        value = observations[layout.name]
        if value.size != math.prod(layout.shape) or (value.size > 1 and value.shape != tuple(layout.shape)):
            raise InferenceError(
                f"observation {layout.name!r} has shape {value.shape}; the network was trained on "
                f"{tuple(layout.shape)}. Give an observation made with the configuration of the training set."
            )
        arrays.append(value.reshape(layout.shape))
    return arrays[0] if len(arrays) == 1 else np.concatenate([array.ravel() for array in arrays])
