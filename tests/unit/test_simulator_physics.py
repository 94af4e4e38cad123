# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tau decays and the calorimeter: conservation laws, branching ratios, contained energy, tags."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from etalumis.config import load

EVENTS = 2000
NEUTRINOS = (12, 14, 16)
# one test in 10^5 fails by chance; the seed is fixed, so none does
SMALL_P = 1e-5
MUON_GEV, TAU_GEV = 0.1057, 1.777


def run_events(simulator: Path, events: int, seed: int) -> list[dict[str, Any]]:
    """Return the summaries of some events."""
    command = ["--local", str(events), "--seed", str(seed), "--config", str(simulator / "sherpa_tau.conf")]
    done = subprocess.run([simulator / "bin" / "sherpa_tau", *command], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def events(sherpa_simulator: Path) -> list[dict[str, Any]]:
    """Some events; their final states are arrays of rows pdg, E, px, py, pz in GeV."""
    found = run_events(sherpa_simulator, EVENTS, 1)
    for event in found:
        event["final_state"] = np.array(event["final_state"])
    return found


def test_energy_and_momentum_are_conserved(events: list[dict[str, Any]]) -> None:
    for event in events:
        total = event["final_state"][:, 1:].sum(axis=0)
        momentum = np.array(event["momentum"])
        expected = np.array([np.sqrt(TAU_GEV**2 + momentum @ momentum), *momentum])
        np.testing.assert_allclose(total, expected, rtol=0, atol=1e-9 * expected[0])


def test_lepton_number_and_charge(events: list[dict[str, Any]]) -> None:
    charge = {11: -1, 13: -1, 211: 1, 321: 1}
    for event in events:
        pdg = event["final_state"][:, 0].astype(int)
        assert np.count_nonzero(pdg == 16) == 1
        assert sum(np.sign(code) * charge.get(abs(code), 0) for code in pdg) == -1


def test_channel_frequencies_match_the_branching_ratios(events: list[dict[str, Any]], sherpa_simulator: Path) -> None:
    channels = json.loads((sherpa_simulator / "build.json").read_text())["channels"]
    expected = EVENTS * np.array([channel["probability"] for channel in channels])
    found = np.bincount([int(event["channel"]) for event in events], minlength=len(channels))
    common = expected >= 5  # the rare ones together
    pairs = [np.append(counts[common], counts[~common].sum()) for counts in (found, expected)]
    assert stats.chisquare(*pairs).pvalue > SMALL_P


def test_the_channel_determines_the_final_state(events: list[dict[str, Any]], sherpa_simulator: Path) -> None:
    channels = json.loads((sherpa_simulator / "build.json").read_text())["channels"]
    decayed = {111, 221, 310}  # seen by their products only
    for event in events:
        stable = {code for code in channels[int(event["channel"])]["products"] if code not in decayed}
        assert stable <= set(event["final_state"][:, 0].astype(int))


def test_momenta_are_uniform_in_their_ranges(events: list[dict[str, Any]], checkout: Path) -> None:
    prior = load(checkout / "config" / "test.yaml").simulator.momentum_gev
    momenta = np.array([event["momentum"] for event in events])
    for axis, (low, high) in enumerate((prior.px, prior.py, prior.pz)):
        assert stats.kstest(momenta[:, axis], "uniform", args=(low, high - low)).pvalue > SMALL_P


def test_tags_follow_from_the_final_state(events: list[dict[str, Any]]) -> None:
    for event in events:
        state = event["final_state"]
        assert event["energies"] == sorted(state[:, 1], reverse=True)[:2]
        neutrinos = state[np.isin(np.abs(state[:, 0]), NEUTRINOS)]
        assert event["missing_et"] == pytest.approx(np.hypot(*neutrinos[:, 2:4].sum(axis=0)), abs=1e-12)


def test_the_visible_sums_at_rest_are_those_of_the_decay_products(events: list[dict[str, Any]]) -> None:
    """Boosted back from the final state, per kind of particle: electromagnetic, hadronic, muons."""
    for event in events:
        state, momentum = event["final_state"], np.array(event["momentum"])
        energy = np.sqrt(TAU_GEV**2 + momentum @ momentum)
        along = (state[:, 1] - state[:, 2:] @ momentum / (energy + TAU_GEV)) / TAU_GEV
        at_rest = state[:, 2:] - along[:, None] * momentum
        boosted = np.column_stack([(energy * state[:, 1] - state[:, 2:] @ momentum) / TAU_GEV, at_rest])
        kind = np.abs(state[:, 0])
        hadronic = ~np.isin(kind, [11, 22, 13, *NEUTRINOS])
        expected = [boosted[of].sum(axis=0) for of in (np.isin(kind, [11, 22]), hadronic, kind == 13)]
        np.testing.assert_allclose(event["visible_at_rest"], np.concatenate(expected), rtol=0, atol=1e-8)


def test_the_calorimeter_contains_the_visible_energy(events: list[dict[str, Any]], checkout: Path) -> None:
    detector = load(checkout / "config" / "test.yaml").simulator.calorimeter
    half_side = 17.5 * detector.cell_cm
    ratios = []
    for event in events:
        state = event["final_state"]
        seen = state[~np.isin(np.abs(state[:, 0]), NEUTRINOS)]
        kind = np.abs(seen[:, 0])
        # where every visible particle points at least three shower widths and a depth's drift inside the face
        reach = np.abs(seen[:, 2:4] / seen[:, 4:]).max() * (detector.distance_cm + 10 * detector.layer_cm)
        if np.any(kind == 13) or np.any(seen[:, 4] < 0) or reach > half_side - 3 * detector.hadronic_width_cm:
            continue
        electromagnetic = np.isin(kind, (11, 22))
        response = np.where(electromagnetic, detector.em_response, detector.hadronic_response)
        ratios.append(event["calorimeter_gev"] / (seen[:, 1] @ response))
    assert len(ratios) > EVENTS / 10
    # missing energy: leakage behind the last layer, and deposits below the cut
    assert 0.95 < np.mean(ratios) < 1.0
    assert max(ratios) <= 1.0 + 1e-9


def test_rejected_repetitions_are_most_of_the_draws(events: list[dict[str, Any]]) -> None:
    draws, accepted = (np.array([event[key] for event in events]) for key in ("draws", "accepted"))
    assert np.all(accepted <= draws)
    assert accepted.sum() < 0.2 * draws.sum()  # SHERPA.md: 86 % in one loop
    assert np.median(accepted) < 30


def test_an_event_depends_only_on_its_seed(events: list[dict[str, Any]], sherpa_simulator: Path) -> None:
    for place in (700, 1999):
        alone = run_events(sherpa_simulator, 1, 1 + place)[0]
        assert alone["final_state"] == events[place]["final_state"].tolist()
        assert alone["calorimeter_gev"] == events[place]["calorimeter_gev"]
