# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The committed observation as measured data: from resources/observations to a posterior."""

import math
import shutil
import sys

import numpy as np
import yaml
from conftest import run_or_fail

from etalumis.inference.posterior import Posterior

NOISE_GEV = 0.4


def log_likelihood_without_deposits(voxels: np.ndarray) -> float:
    """Return the log likelihood of a detector without any deposited energy."""
    normalisation = voxels.size * math.log(NOISE_GEV * math.sqrt(2 * math.pi))
    return -0.5 * float(np.square(voxels / NOISE_GEV).sum()) - normalisation


def test_a_chain_explains_the_committed_observation(checkout, sherpa_simulator, tmp_path):
    observation, posterior, config = tmp_path / "observation.h5", tmp_path / "rmh.h5", tmp_path / "config.yaml"
    data = checkout / "resources/observations/tau_pi_pi0.npy"
    voxels = np.load(data).astype(np.float64)
    assert voxels.shape == (20, 35, 35)
    settings = yaml.safe_load((checkout / "config/test.yaml").read_text())
    settings["simulator"] = {"noise_gev": NOISE_GEV}
    settings["posteriors"]["rmh"] = {"runs": 12_000}
    config.write_text(yaml.safe_dump(settings))

    measured = ["--measured", data, "--name", "calorimeter", "--output", observation]
    run_or_fail([sys.executable, "-m", "etalumis", "traces", "observation", *measured])
    # the simulator of the tests, with the noise of this observation
    simulator = tmp_path / "simulator"
    shutil.copytree(sherpa_simulator, simulator, symlinks=True)
    run_or_fail([sys.executable, "-m", "etalumis", "simulator", "config", "--config", config, "--output", simulator])
    inputs = ["--config", config, "--simulator", simulator, "--observation", observation]
    run_or_fail([sys.executable, "-m", "etalumis", "posteriors", "rmh", *inputs, "--chain", "0", "--output", posterior])

    found = Posterior.load(posterior)
    # The signal is weak: 18 nats between the best trace of long chains and nothing; typical prior runs are worse.
    assert float(np.median(found.log_likelihood)) > log_likelihood_without_deposits(voxels) + 5
    # and no trace explains the noise: chi2 of 24,500 voxels stays within what a standard deviation of sqrt(2 n) allows
    assert float(found.log_likelihood.max()) < log_likelihood_without_deposits(voxels) + 40
