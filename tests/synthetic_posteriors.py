# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posteriors with known properties, most of them of the tau decay's shape, for the tests of diagnostics and figures."""

import numpy as np

from etalumis.diagnostics.history import History
from etalumis.inference.posterior import Posterior

TRUTH = {
    "momentum": np.array([0.6, -1.3, 45.2]),
    "energies": np.array([25.0, 14.0]),
    "channel": np.array(4.0),
    "missing_et": np.array(0.7),
}
CHANNELS = [4, 0, 2, 10, 23]
PROBABILITIES = [0.55, 0.2, 0.12, 0.1, 0.03]


def tau_posterior(engine="rmh", draws=2000, chains=2, seed=0, log_weight_sd=0.0, shift=0.0):
    """Return independent draws with log-normal weights; `shift` moves p_x of the last chain."""
    rng = np.random.default_rng(seed)
    chain = np.repeat(np.arange(chains), draws // chains)
    momentum = rng.normal([0.8, -1.1, 45.0], [0.4, 0.4, 1.0], size=(draws, 3))
    momentum[chain == chains - 1, 0] += shift
    energies = np.sort(rng.normal([14.0, 24.0], [3.0, 4.0], size=(draws, 2)), axis=1)[:, ::-1]
    return Posterior(
        engine=engine,
        values={
            "momentum": momentum,
            "energies": energies,
            "channel": rng.choice(CHANNELS, p=PROBABILITIES, size=draws).astype(float),
            "missing_et": np.abs(rng.normal(0.8, 0.4, size=draws)),
        },
        log_weight=np.zeros(draws) if engine == "rmh" else log_weight_sd * rng.normal(size=draws),
        log_likelihood=rng.normal(size=draws),
        log_prior=np.zeros(draws),
        chain=chain,
        trace_type=np.full(draws, b"0" * 32, dtype="S32"),
        info={"seed": seed, "thin": 5, "burn_in": 1000},
        truth=dict(TRUTH),
    )


def posterior_of(values, engine="rmh", chains=2, log_weight=None, truth=(), **info):
    """Return the posterior of any model: values of shape (draw, ...), one chain after the other."""
    draws = len(next(iter(values.values())))
    return Posterior(
        engine=engine,
        values={name: np.asarray(column, dtype=float) for name, column in values.items()},
        log_weight=np.zeros(draws) if log_weight is None else log_weight,
        log_likelihood=np.random.default_rng(9).normal(size=draws),
        log_prior=np.zeros(draws),
        chain=np.repeat(np.arange(chains), draws // chains),
        trace_type=np.full(draws, b"0" * 32, dtype="S32"),
        info=info,
        truth={name: np.asarray(value) for name, value in dict(truth).items()},
    )


def history(prior_loss=30.0, final=17.0, noise=0.1, records=40, seed=0):
    """Return a training whose loss falls exponentially from that of the prior to `final`."""
    rng = np.random.default_rng(seed)
    iteration = np.linspace(100, 4000, records)
    loss = final + (prior_loss - final) * np.exp(-iteration / 600)
    return History(
        iteration=iteration,
        traces_seen=64 * iteration,
        train_loss=loss + noise * rng.normal(size=records),
        valid_loss=loss + noise * rng.normal(size=records),
        prior_loss=prior_loss,
        learning_rate=np.full(records, 1e-4),
        traces_per_s=np.full(records, 95.0),
    )
