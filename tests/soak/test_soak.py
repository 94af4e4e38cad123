# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Soak: the simulator is killed or stopped at every kind of message; no trace is lost, repeated or altered.

`make test` makes few runs, `make validate` more, `make soak` as many as ETALUMIS_SOAK_RUNS says (10,000).
"""

import logging
import os
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from exact.test_ic_by_hand import SkewedSession
from soak.strikes import MOMENTS, Strikes, StruckSimulator

from etalumis.inference import importance, rmh
from etalumis.inference.compilation import sample_with_proposals
from etalumis.ppx import Simulator
from etalumis.traces.format import Provenance
from etalumis.traces.recording.generate import generate

RETRIES = 10
OBSERVATIONS = {"obs0": 8.0, "obs1": 9.0}


def dataset(model, runs: int, folder: Path) -> dict[str, np.ndarray]:
    """Record prior traces; return every column of the file."""
    path = folder / "traces.h5"
    provenance = Provenance(model="marsaglia", run_seed=7, split="train", config_digest="c", simulator_build_id="b")
    generate(model, path, provenance, 0, runs, retries=RETRIES, frame_traces=100)
    columns: dict[str, np.ndarray] = {}

    def keep(name: str, found: object) -> None:
        if isinstance(found, h5py.Dataset):
            columns[name] = found[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    assert columns["traces/index"].tolist() == list(range(runs))  # none lost, none repeated
    return columns


def weighted(model, runs: int, folder: Path) -> dict[str, np.ndarray]:
    """Importance sampling."""
    return columns_of(importance(model, OBSERVATIONS, runs=runs, seed=8, retries=RETRIES), runs)


def chain(model, runs: int, folder: Path) -> dict[str, np.ndarray]:
    """RMH: an altered trace would change all later ones."""
    return columns_of(rmh(model, OBSERVATIONS, runs=runs, seed=9, init_runs=20, retries=RETRIES), runs)


def columns_of(posterior, runs: int) -> dict[str, np.ndarray]:
    assert len(posterior.log_weight) == runs
    return {"log weight": posterior.log_weight, **posterior.values}


def proposed(model, runs: int, folder: Path) -> dict[str, np.ndarray]:
    """Inference compilation: assisted runs, and replays that count the repetitions of a scope."""
    return columns_of(
        sample_with_proposals(model, OBSERVATIONS, SkewedSession(), runs=runs, seed=10, retries=RETRIES), runs
    )


WAYS = {"dataset": dataset, "importance": weighted, "rmh": chain, "ic": proposed}


class Stepwise(Simulator):
    """Does not make steps of chains by itself: every step is a message."""

    can_step = False


@pytest.fixture(scope="module")
def command(cpp_examples):
    """The simulator: a rejection loop (so that runs differ in length), a tag and two observe statements."""
    return [str(cpp_examples / "marsaglia"), "--replaced"]


def soak(way, runs, kind, command, folder, strikes, delegate) -> Counter[str]:
    """Do the same work with and without strikes; return the number of strikes by kind."""
    quiet, stormy = folder / "quiet", folder / "stormy"
    for place in (quiet, stormy):
        place.mkdir()
    with kind(command, scratch=quiet, delegate=delegate) as simulator:
        expected = WAYS[way](simulator, runs, quiet)
    with kind(command, scratch=stormy, timeout_s=1.0, delegate=delegate) as simulator:
        found = WAYS[way](StruckSimulator(simulator, strikes), runs, stormy)
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
    assert not list(quiet.glob("etalumis-*")) + list(stormy.glob("etalumis-*"))
    return strikes.done


STATEMENTS = ("sample", "observe", "tag")
UNSEEN = tuple(moment for moment in MOMENTS if moment not in STATEMENTS)
MODES = {
    # the simulator, whether runs are delegated, and the moments of strikes
    "interactive": (Simulator, False, MOMENTS),
    "delegated": (Simulator, True, UNSEEN),
    "stepwise": (Stepwise, True, UNSEEN),
    "assisted": (Simulator, True, ("sample", *UNSEEN)),
}
WORK = [
    *((way, mode) for mode in ("interactive", "delegated") for way in ("dataset", "importance", "rmh")),
    ("rmh", "stepwise"),
    ("ic", "interactive"),
    ("ic", "assisted"),
]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("way", "mode"), WORK)
def test_no_trace_is_lost_repeated_or_altered(way, mode, command, tmp_path, caplog, statistics):
    caplog.set_level(logging.ERROR)
    runs = int(os.environ.get("ETALUMIS_SOAK_RUNS", statistics.size(50, 200)))
    kind, delegate, moments = MODES[mode]
    # of the requests: a delegated one is for many runs
    share = 0.25 if mode == "delegated" else 0.2 if runs < 1000 else 0.1
    strikes = Strikes(seed=sorted(WAYS).index(way), share=share, moments=moments)
    done = soak(way, runs, kind, command, tmp_path, strikes, delegate)
    if mode == "delegated" and runs < 1000:
        assert sum(done.values()) >= 1  # many runs at once: there are few requests to strike
        return
    assert sum(done.values()) > (10 if mode == "delegated" else runs * share / 2)
    if runs >= 150:
        assert {key.split()[0] for key in done} == set(moments)
        assert {key.split()[1] for key in done} == {"SIGKILL", "SIGSTOP"}
