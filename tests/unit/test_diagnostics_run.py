# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic_posteriors import TRUTH, history, posterior_of, tau_posterior

from etalumis.cli import main
from etalumis.diagnostics import Thresholds, diagnose
from etalumis.diagnostics.checks import check
from etalumis.diagnostics.files import read_diagnostics, write_diagnostics
from etalumis.diagnostics.history import judge
from etalumis.diagnostics.quantities import TAU_DECAY, quantities_of
from etalumis.diagnostics.run import to_json
from etalumis.errors import DatasetError, InferenceError


def sentences(result, subject):
    return [c["sentence"] for c in result["checks"] if c["subject"] == subject]


def passed(result, subject):
    return [c["passed"] for c in result["checks"] if c["subject"] == subject]


@pytest.fixture(scope="module")
def good():
    return diagnose([tau_posterior(), tau_posterior("ic", 4000, seed=1, log_weight_sd=0.5)])


def test_good_posteriors_pass_every_check(good):
    assert [c["sentence"] for c in good["checks"] if not c["passed"]] == []
    assert {c["subject"] for c in good["checks"]} == {"convergence", "weights", "truth", "agreement"}


def test_quantities_are_those_of_figure_8(good):
    keys = ["px", "py", "pz", "energy_1", "energy_2", "channel", "missing_et"]
    assert list(good["engines"]["rmh"]["quantities"]) == keys
    assert list(good["agreement"]["rmh-ic"]) == keys
    assert good["truth"]["pz"] == 45.2
    assert good["truth"]["channel"] == 4.0


def test_a_shifted_chain_has_not_converged():
    result = diagnose([tau_posterior(shift=1.0)])
    assert passed(result, "convergence") == [False]
    (sentence,) = sentences(result, "convergence")
    assert "not converged: R-hat" in sentence
    assert "> 1.01 for px" in sentence
    assert "py" not in sentence


def test_short_chains_have_too_small_an_ess():
    result = diagnose([tau_posterior(draws=200)], Thresholds(rhat=1.2))
    assert "ESS" in sentences(result, "convergence")[0]
    assert "< 400" in sentences(result, "convergence")[0]


def test_one_chain_has_no_rhat():
    result = diagnose([tau_posterior(chains=1)])
    assert passed(result, "convergence") == [False]
    assert "only one chain" in sentences(result, "convergence")[0]
    assert np.isnan(result["engines"]["rmh"]["quantities"]["px"]["rhat"])


def test_channel_that_never_changes_is_named():
    posterior = tau_posterior()
    posterior.values["channel"][:] = 4
    result = diagnose([posterior])
    assert passed(result, "convergence") == [False]
    assert "Constant in all draws: channel" in sentences(result, "convergence")[0]


def test_quantity_absent_from_some_draws_is_named():
    posterior = tau_posterior()
    posterior.values["missing_et"][::3] = np.nan
    result = diagnose([posterior])
    assert passed(result, "convergence") == [False]
    assert "not in every draw: missing_et" in sentences(result, "convergence")[0]


def test_dominating_weights_are_named():
    result = diagnose([tau_posterior("ic", log_weight_sd=5.0)])
    assert passed(result, "weights") == [False]
    assert "k-hat" in sentences(result, "weights")[0]
    assert "ESS" in sentences(result, "weights")[0]


def test_draws_without_any_weight_are_no_posterior():
    posterior = tau_posterior("ic")
    posterior.log_weight[:] = -np.inf
    result = diagnose([tau_posterior(), posterior])
    assert "no posterior: all 2,000 draws have weight zero" in sentences(result, "weights")[0]
    assert passed(result, "agreement") == [False]
    assert passed(result, "truth") == [True, False]


def test_too_few_effective_draws_give_no_verdict():
    few = tau_posterior("ic", log_weight_sd=0.0)
    few.log_weight[5:] = -40.0  # five draws carry all the weight
    result = diagnose([tau_posterior(), few])
    assert passed(result, "truth") == [True, False]
    said = sentences(result, "truth")[1]
    assert said == "IC: too few effective draws to compare with the truth (ESS 5.0 < 20)."
    assert sentences(result, "agreement") == ["RMH and IC: too few effective draws to compare them (ESS 5.0 < 20)."]
    assert passed(result, "agreement") == [False]


def test_a_quantity_with_too_few_effective_draws_is_left_out():
    stuck = tau_posterior()
    stuck.values["channel"] = np.where(stuck.chain == 0, 4.0, 0.0)
    stuck.values["channel"][:3] = 0.0
    result = diagnose([stuck, tau_posterior("ic", 4000, seed=1, log_weight_sd=0.5)])
    assert "the other 6 quantities. Not judged: channel (ESS " in sentences(result, "truth")[0]
    assert "inside the central 95 % of all 7" in sentences(result, "truth")[1]
    assert (
        "agree in all quantities that can be compared. Not judged: channel (ESS " in sentences(result, "agreement")[0]
    )
    assert passed(result, "agreement") == [False]


@pytest.mark.parametrize(("truth", "probability", "inside"), [(0, 0.94, True), (1, 0.06, True), (1, 0.03, False)])
def test_a_discrete_truth_is_inside_the_central_interval_if_it_is_probable(truth, probability, inside):
    draws = np.random.default_rng(1).permutation(np.arange(2000) < 2000 * probability)
    values = {"flag": draws if truth else ~draws}
    weighted = posterior_of(values, "importance", truth={"flag": truth})
    for result in diagnose([posterior_of(values, truth={"flag": truth})]), diagnose([weighted]):
        assert passed(result, "truth") == [inside]


def test_a_truth_equal_to_a_constant_up_to_rounding_is_inside():
    result = diagnose([posterior_of({"x": np.full(500, 0.1 + 0.2)}, truth={"x": 0.3})])
    assert result["engines"]["rmh"]["quantities"]["x"]["truth"]["mass_below"] == 0.5
    assert sentences(result, "truth") == ["RMH: the truth is inside the central 95 % of x."]


def constant_and_moving(constant, engine="rmh", seed=0, **options):
    rng = np.random.default_rng(seed)
    rounding = 1 + 4e-16 * rng.integers(-2, 3, size=4000)
    return posterior_of({"n": constant * rounding, "x": rng.normal(size=4000)}, engine, **options)


def test_a_constant_of_every_engine_agrees_whatever_the_rounding_errors():
    weights = np.random.default_rng(3).normal(size=4000)
    result = diagnose([constant_and_moving(3.0), constant_and_moving(3.0, "ic", seed=1, log_weight=0.5 * weights)])
    assert result["agreement"]["rmh-ic"]["n"]["mean_difference"] == 0.0
    assert result["agreement"]["rmh-ic"]["n"]["ks"] == 0.0
    assert [c["sentence"] for c in result["checks"] if not c["passed"]] == []
    for engine in ("rmh", "ic"):
        summary = result["engines"][engine]["quantities"]["n"]
        assert summary["constant"]
        assert summary["sd"] == 0.0


def test_constants_that_differ_are_named_with_their_values():
    result = diagnose([constant_and_moving(3.0), constant_and_moving(4.0, "ic", seed=1)])
    assert passed(result, "agreement") == [False]
    assert "n (3 and 4 in every draw)" in sentences(result, "agreement")[0]
    assert passed(result, "convergence") == [False]  # a constant that another engine does not confirm


def test_a_constant_passes_if_states_came_from_the_prior_often_enough():
    tempered = {"inverse_temperatures": [1.0, 0.1, 0.0], "swap_acceptance": [0.4, 0.5], "round_trips": 30}
    alone, few = (
        diagnose([constant_and_moving(3.0, parts=[tempered, tempered | {"round_trips": trips}])]) for trips in (30, 2)
    )
    assert passed(alone, "convergence") == [True]
    assert passed(few, "convergence") == [False]
    assert "the chains did not visit other values" in sentences(few, "convergence")[0]


def test_a_quantity_that_no_draw_has_is_not_judged():
    result = diagnose([posterior_of({"x": np.full(500, np.nan), "y": np.arange(500.0)}, truth={"x": 1.0})])
    assert sentences(result, "truth") == ["RMH: too few effective draws to compare with the truth (no ESS)."]


def test_infinite_draws_are_not_called_absent():
    posterior = tau_posterior()
    posterior.values["missing_et"][7] = np.inf
    assert "missing_et (missing or infinite" in sentences(diagnose([posterior]), "convergence")[0]


def test_a_posterior_without_usable_log_weights_is_refused():
    posterior = tau_posterior("ic", seed=1)
    posterior.log_weight[5] = np.nan
    with pytest.raises(InferenceError, match=r"1 of 2,000 log weights are NaN or \+inf, the first of draw 5"):
        diagnose([posterior])


def test_tempered_chains_report_swaps_and_round_trips():
    posterior = tau_posterior()
    posterior.info["parts"] = [
        {"swap_acceptance": [0.4, 0.07], "round_trips": 12},
        {"swap_acceptance": [0.3, 0.2], "round_trips": 0},
    ]
    said = "Smallest swap acceptance 0.07; round trips from coldest to hottest, by chain: 12, 0."
    assert said in sentences(diagnose([posterior]), "convergence")[0]
    assert "swap" not in sentences(diagnose([tau_posterior()]), "convergence")[0]


def test_a_truth_outside_the_interval_is_named():
    posterior = tau_posterior()
    posterior.truth["momentum"] = np.array([2.9, -1.3, 45.2])
    posterior.truth["channel"] = np.array(7.0)
    result = diagnose([posterior])
    assert passed(result, "truth") == [False]
    assert sentences(result, "truth")[0].endswith("for px, channel.")


def test_engines_that_differ_are_named():
    result = diagnose([tau_posterior(), replace(tau_posterior(seed=3, shift=0.0), engine="ic")])
    assert passed(result, "agreement") == [True]
    other = tau_posterior(seed=3)
    other.values["momentum"][:, 1] += 0.4
    other.values["channel"][:] = 0
    result = diagnose([tau_posterior(), replace(other, engine="ic")])
    assert passed(result, "agreement") == [False]
    assert "py by" in sentences(result, "agreement")[0]
    assert "channel by 0.8" in sentences(result, "agreement")[0]


def test_stricter_thresholds_fail_what_passed(good):
    verdicts = check(good, Thresholds(ess=10_000))
    assert [v.passed for v in verdicts if v.subject in ("convergence", "weights")] == [False, False]


def test_khat_threshold_is_stricter_for_few_draws():
    assert Thresholds().khat_for(10**6) == 0.7
    assert Thresholds().khat_for(100) == pytest.approx(0.5)


def test_models_without_a_tau_have_one_quantity_per_scalar():
    values = {"mu": np.zeros(5), "x": np.zeros((5, 2)), "image": np.zeros((5, 20))}
    assert [q.key for q in quantities_of(values)] == ["mu", "x[0]", "x[1]"]
    assert quantities_of(tau_posterior().values) == TAU_DECAY


def test_a_diagnostics_file_is_read_as_it_was_written(tmp_path, good):
    result = diagnose([tau_posterior(chains=1), tau_posterior("ic", seed=1, log_weight_sd=0.5)])
    path = tmp_path / "diagnostics.json"
    write_diagnostics(path, result)
    assert "NaN" not in path.read_text()
    back = read_diagnostics(path)
    assert np.isnan(back["engines"]["rmh"]["quantities"]["px"]["rhat"])
    assert to_json(back) == json.loads(path.read_text())
    assert back["engines"]["ic"]["quantities"] == result["engines"]["ic"]["quantities"]


def test_other_formats_and_versions_are_refused(tmp_path):
    path = tmp_path / "diagnostics.json"
    with pytest.raises(DatasetError, match="cannot be read"):
        read_diagnostics(path)
    path.write_text('{"format": "etalumis-diagnostics", "version": 99}')
    with pytest.raises(DatasetError, match="version 1, found 'etalumis-diagnostics' 99"):
        read_diagnostics(path)


def test_a_training_that_learned_is_distinguished_from_one_that_did_not():
    losses = history()
    learned, plateau = judge(losses), judge(history(final=30.0, noise=0.3))
    assert learned.passed
    assert f"{losses.valid_loss[-1]:.3f} nats, {30 - losses.valid_loss[-1]:.3f} below" in learned.sentence
    assert not plateau.passed
    assert "has not learned more than the prior" in plateau.sentence


def test_a_gain_within_the_scatter_is_no_gain():
    assert not judge(history(final=29.0, noise=0.6)).passed
    assert judge(history(final=29.0, noise=0.05)).passed


@pytest.mark.parametrize(("loss", "prior"), [(np.inf, 30.0), (17.0, np.nan)])
def test_a_training_whose_losses_are_not_finite_is_not_called_learned(loss, prior):
    losses = history()
    losses.valid_loss[-1] = loss
    verdict = judge(replace(losses, prior_loss=prior))
    assert not verdict.passed
    assert "diverged" in verdict.sentence


def test_command_line_writes_the_file_and_prints_the_verdicts(tmp_path, capsys):
    tau_posterior(shift=1.0).save(tmp_path / "rmh.h5")
    tau_posterior("ic", seed=1, log_weight_sd=0.5).save(tmp_path / "ic.h5")
    output = tmp_path / "out" / "diagnostics.json"
    files = [str(tmp_path / "rmh.h5"), str(tmp_path / "ic.h5")]
    (tmp_path / "config.yaml").write_text("run: {name: x}\n")
    options = ["--config", str(tmp_path / "config.yaml"), "--output", str(output)]
    assert main(["diagnostics", "--posteriors", *files, *options]) == 0
    printed = capsys.readouterr().out
    assert "NOT  RMH: not converged" in printed
    assert "ok   IC: the weights are reliable" in printed
    assert read_diagnostics(output)["truth"]["px"] == TRUTH["momentum"][0]
    assert len(read_diagnostics(output)["config_digest"]) == 16


def test_command_line_refuses_two_files_of_one_engine(tmp_path, capsys):
    tau_posterior().save(tmp_path / "a.h5")
    path = str(tmp_path / "a.h5")
    assert main(["diagnostics", "--posteriors", path, path, "--output", str(tmp_path / "d.json")]) == 1
    assert "second posterior of engine 'rmh'" in capsys.readouterr().err
    assert not (tmp_path / "d.json").exists()


def test_a_gain_that_no_named_latent_shares_does_not_come_from_the_observation():
    blind = replace(history(), named_gain={"px": 0.002, "channel": 0.01})
    seeing = replace(history(), named_gain={"px": 0.4, "channel": 0.5})
    assert not judge(blind).passed
    assert "does not use the observation" in judge(blind).sentence
    assert judge(seeing).passed
    assert "px 0.40, channel 0.50" in judge(seeing).sentence
