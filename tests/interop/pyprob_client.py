# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The public Python peer as a client, unpatched: `pyprob_client.py ENDPOINT ENGINE RUNS OBSERVATIONS`.

Runs under an interpreter that has pyprob 1.5.0 and not necessarily us (test_pyprob.py); prints values and log weights.
"""

import json
import sys

import pyprob

ENGINES = {
    "importance": pyprob.InferenceEngine.IMPORTANCE_SAMPLING,
    "rmh": pyprob.InferenceEngine.RANDOM_WALK_METROPOLIS_HASTINGS,
}


def main():
    endpoint, engine, runs, observations = sys.argv[1:]
    pyprob.seed(1)
    model = pyprob.RemoteModel(endpoint)
    if engine == "prior":
        found = model.prior_results(num_traces=int(runs))
    else:
        found = model.posterior_results(
            num_traces=int(runs), inference_engine=ENGINES[engine], observe=json.loads(observations)
        )
    log_weights = [float(w) for w in found.log_weights]
    values = [float(value) for value in found.values]
    model.close()
    sys.stdout.write("\n" + json.dumps({"values": values, "log_weights": log_weights}) + "\n")


if __name__ == "__main__":
    main()
