# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
from synthetic_posteriors import tau_posterior

from etalumis.diagnostics import diagnose
from etalumis.diagnostics.headline import headline, own_checks, short_verdicts


def test_reliable_engines_come_first_with_their_agreement_and_the_truth():
    result = diagnose([tau_posterior(), tau_posterior("ic", seed=1)])
    assert own_checks(result) == {"rmh": True, "ic": True}
    assert headline(result) == [
        "Rely on RMH and IC, which passed their own checks.",
        "They agree with each other.",
        "The truth is inside the central 95 % of RMH and IC.",
    ]


def test_a_failed_check_is_said_with_its_numbers_and_its_agreement_is_not_mentioned():
    result = diagnose([tau_posterior(shift=2.0), tau_posterior("ic", seed=1)])
    first, *rest = headline(result)
    assert first == "Rely on IC, which passed its own checks; not on RMH."
    assert not any("RMH" in sentence for sentence in rest)
    assert short_verdicts(result)["rmh"].startswith("RMH: not converged, R-hat ")


def test_without_any_reliable_engine_there_is_no_posterior():
    result = diagnose([tau_posterior("ic", log_weight_sd=8.0)])
    assert headline(result) == ["No posterior to rely on: IC does not pass its own checks."]


def test_reliable_engines_that_differ_are_named_with_what_differs():
    other = tau_posterior("ic", seed=1)
    other.values["momentum"][:, 0] -= 1.0
    sentences = headline(diagnose([tau_posterior(), other]))
    assert any(sentence.startswith("RMH and IC differ: px by ") for sentence in sentences)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_weights_of_zero_are_no_posterior():
    empty = tau_posterior("ic")
    empty.log_weight[:] = float("-inf")
    assert short_verdicts(diagnose([empty])) == {"ic": "IC: no posterior, all weights are zero"}
