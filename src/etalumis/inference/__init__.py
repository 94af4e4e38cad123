# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Inference engines, which describe the runs of a model by plans, and their posterior files.

importance      prior runs weighted by their likelihood
rmh             random-walk Metropolis-Hastings, collapsed over rejection scopes
network_rmh     the same chains, which also move to runs of a trained network
compilation     weighted runs proposed by a trained network (inference compilation)
smc             tempered sequential Monte Carlo from runs of the network or the prior
"""

from etalumis.inference.compilation import compilation
from etalumis.inference.importance import importance
from etalumis.inference.network_rmh import NetworkRmhSettings, network_rmh
from etalumis.inference.posterior import Posterior
from etalumis.inference.rmh import rmh
from etalumis.inference.smc import SmcSettings, smc
from etalumis.inference.temperatures import inverse_temperatures

__all__ = [
    "NetworkRmhSettings",
    "Posterior",
    "SmcSettings",
    "compilation",
    "importance",
    "inverse_temperatures",
    "network_rmh",
    "rmh",
    "smc",
]
