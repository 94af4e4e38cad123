# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The public Python client (pyprob 1.5.0, unpatched) runs our C++ models.

Its dependencies are pinned to releases of long ago, so it lives in an environment of its own; with Python 3.11 and the
PyTorch and NumPy of today it runs as it is:

    python -m venv pyprob && pyprob/bin/pip install torch numpy matplotlib pyzmq flatbuffers pyyaml
    pyprob/bin/pip install scikit-learn termcolor pydotplus sqlitedict && pyprob/bin/pip install --no-deps pyprob==1.5.0
    ETALUMIS_PYPROB_PYTHON=pyprob/bin/python make test
"""

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_mean

VARIABLE = "ETALUMIS_PYPROB_PYTHON"
PYTHON = os.environ.get(VARIABLE, "")
CLIENT = Path(__file__).with_name("pyprob_client.py")
SIGMAS = 4.0

pytestmark = pytest.mark.skipif(
    not PYTHON, reason=f"{VARIABLE} names no interpreter that has pyprob 1.5.0: see tests/interop/test_pyprob.py"
)


def run_pyprob(program, transport, folder, engine, runs, observations):
    """Return the values and log weights of pyprob for one of our programs."""
    endpoint = f"ipc://{folder / 'socket'}" if transport == "ipc" else "tcp://127.0.0.1:*"
    with subprocess.Popen([*program, endpoint], stderr=subprocess.PIPE, text=True) as server:
        try:
            place = server.stderr.readline().split()[-1]
            words = [PYTHON, CLIENT, place, engine, str(runs), json.dumps(observations)]
            done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
            assert server.poll() is None, "the simulator has ended"
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return np.array(found["values"]), np.array(found["log_weights"])


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_prior(cpp_examples, tmp_path, transport):
    values, _ = run_pyprob([cpp_examples / "gaussian"], transport, tmp_path, "prior", 1000, {})
    assert len(values) == 1000
    assert abs(values.mean() - 1.0) < SIGMAS * math.sqrt(5.0 / 1000)
    assert abs(np.mean((values - 1.0) ** 2) - 5.0) < SIGMAS * 5.0 * math.sqrt(2.0 / 1000)


@pytest.mark.parametrize("name", ["gaussian", "branching"])
def test_importance_sampling(cpp_examples, tmp_path, name):
    exact = ANSWERS["gaussian_unknown_mean" if name == "gaussian" else name]
    values, log_weights = run_pyprob([cpp_examples / name], "ipc", tmp_path, "importance", 6000, exact.observations)
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    for label, (_, function, truth) in exact.expectations.items():
        found = function(values)
        estimate = float(weights @ found)
        error = math.sqrt(float(weights**2 @ (found - estimate) ** 2))
        assert abs(estimate - truth) < SIGMAS * error, f"{label}: {estimate} +- {error}, exact {truth}"


def test_rmh(cpp_examples, tmp_path):
    exact = ANSWERS["gaussian_unknown_mean"]
    values, _ = run_pyprob([cpp_examples / "gaussian"], "tcp", tmp_path, "rmh", 3000, exact.observations)
    for label, (_, function, truth) in exact.expectations.items():
        assert_mean(function(values[100:]), truth, label)
