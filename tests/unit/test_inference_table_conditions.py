# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Expressions of `etalumis infer --probability`: their grammar, their values and their errors."""

import math

import numpy as np
import pytest
from synthetic_posteriors import tau_posterior

from etalumis.errors import ConfigError, InferenceError
from etalumis.inference_table import ProbabilityColumn

VALUES = {
    "px": np.array([-1.0, 0.0, 1.0, 2.0]),
    "channel": np.array([1.0, 2.0, 3.0, np.nan]),
    "energies": np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]]),
    "mu/GeV": np.array([0.1, 0.2, 0.3, 0.1 + 0.2]),
    "P": np.array([0.0, 0.0, 0.0, 1.0]),
}
WEIGHT = np.array([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("text", "probability"),
    [
        ("px > 0", 0.7),
        ("px >= 0", 0.9),
        ("px<-.5", 0.1),
        ("px <= 1e0", 0.6),
        ("px == 2", 0.4),
        ("px != 2", 0.6),
        ("channel in {1, 2}", 0.3),
        ("channel in {1,2,3,4}", 0.6),
        ("channel not in {1}", 0.5),  # the last draw has no channel
        ("channel != 1", 0.5),
        ("not channel == 1", 0.9),
        ("px in [0, 1]", 0.5),
        ("px not in [0, 1]", 0.5),
        ("energies[1] > 6.5", 0.7),
        ('"mu/GeV" == 0.3', 0.7),  # equal up to rounding
        ("P > 0", 0.4),
        ("P(P > 0)", 0.4),
        ("px > 0 and channel in {3} or px < 0", 0.4),
        ("px > 0 and (channel in {3} or px < 0)", 0.3),
        ("not (px > 0 and channel == 3)", 0.7),
        ("not not px > 0", 0.7),
        (" P( (px > 0) ) ", 0.7),
    ],
)
def test_the_probability_of_a_condition_is_the_weight_of_the_draws_that_satisfy_it(text, probability):
    column = ProbabilityColumn.parse(text)
    column.check_names(VALUES)
    found = column.evaluate(VALUES, WEIGHT)
    assert found.value == pytest.approx(probability)
    assert found.passed is None
    again = ProbabilityColumn.parse(str(column))
    assert again.evaluate(VALUES, WEIGHT) == found


@pytest.mark.parametrize(
    ("limit", "passed"), [(">= 0.7", True), ("> 0.7", False), ("<= 0.7", True), ("< 0.7", False), (">= .71", False)]
)
def test_a_threshold_decides(limit, passed):
    column = ProbabilityColumn.parse(f"P(px   > 0){limit}")
    assert column.evaluate({"px": np.array([0.0, 1.0])}, np.array([0.3, 0.7])).passed is passed
    assert str(column).startswith("P(px > 0) ")


def test_the_error_is_that_of_the_weighted_mean_and_never_zero():
    rng = np.random.default_rng(1)
    weight = rng.exponential(size=500)
    weight /= weight.sum()
    column = ProbabilityColumn.parse("x > 0.25")
    estimates = [column.evaluate({"x": rng.random(500)}, weight) for _ in range(400)]
    spread = np.std([estimate.value for estimate in estimates])
    assert np.mean([estimate.mcse for estimate in estimates]) == pytest.approx(spread, rel=0.15)
    size = 1.0 / np.sum(weight**2)
    for values, probability in ((np.ones(500), 1.0), (np.zeros(500), 0.0)):
        found = column.evaluate({"x": values}, weight)
        assert found.value == probability
        assert found.mcse == pytest.approx(1.0 / (size + 2.0))


def test_without_weight_there_is_no_probability_and_no_decision():
    found = ProbabilityColumn.parse("P(px > 0) >= 0.5").evaluate(VALUES, np.zeros(4))
    assert math.isnan(found.value)
    assert math.isnan(found.mcse)
    assert found.passed is None


def test_the_quantities_of_the_tau_decay_have_their_short_names():
    posterior = tau_posterior()
    for text in ("px > 0", "energy_1 > 20", "channel in {1, 2}", "momentum[0] > 0"):
        ProbabilityColumn.parse(text).check_names(posterior.values)
    short, long = (ProbabilityColumn.parse(text) for text in ("px > 0", "momentum[0] > 0"))
    weight = np.full(len(posterior), 1.0 / len(posterior))
    assert short.evaluate(posterior.values, weight) == long.evaluate(posterior.values, weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: expected the name of a quantity, found the end"),
        ("px", "character 3: expected a relation (<, <=, >, >=, ==, !=, in, not in), found the end"),
        ("px >", "character 5: expected a number, found the end"),
        ("px > y", "character 6: expected a number, found 'y'"),
        ("px = 3", "character 4: '=' has no meaning here"),
        ("channel in {1, 2", "character 17: expected ',' or '}', found the end"),
        ("channel in 1", "character 12: expected '{' or '[', found '1'"),
        ("channel in {}", "character 13: expected a number, found '}'"),
        ("px in [1, 0]", "expected an interval [low, high] with low <= high, found [1, 0]"),
        ("px > 0 px < 1", "character 8: expected and, or, or the end, found 'px'"),
        ("(px > 0", "character 8: expected and, or, or ')', found the end"),
        ("channel in {1} >= 0.9", "to compare the probability with a threshold, write P(CONDITION) >= THRESHOLD"),
        ("P(px > 0) >= 90", "the threshold of a probability lies between 0 and 1, found 90"),
        ("P(px > 0) >=", "character 13: expected a threshold between 0 and 1, found the end"),
        ("P(px > 0) 0.9", "character 11: expected a relation or the end, found '0.9'"),
        ("P(px > 0) >= 0.9 and", "character 18: expected and, or, or the end, found 'and'"),
        ("px > 0 & py > 0", "character 8: '&' has no meaning here"),
    ],
)
def test_errors_say_where_and_what_is_expected(text, message):
    with pytest.raises(ConfigError) as raised:
        ProbabilityColumn.parse(text)
    assert str(raised.value).startswith(f"--probability {text!r}: {message}. Examples: ")


def test_an_unknown_name_lists_the_known_ones_the_closest_first():
    with pytest.raises(InferenceError, match=r"there is no quantity 'xchannel'; the simulator has channel, "):
        ProbabilityColumn.parse("xchannel in {1}").check_names(VALUES)
    for name in ("energies", "energies[2]", "px[0]"):
        with pytest.raises(InferenceError, match="A component of a vector is written NAME"):
            ProbabilityColumn.parse(f"{name} > 0").check_names(VALUES)
