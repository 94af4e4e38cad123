# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import errno
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_posteriors import TRUTH, history, posterior_of, tau_posterior

from etalumis import config
from etalumis.cli import main
from etalumis.config import Config
from etalumis.diagnostics import diagnose
from etalumis.diagnostics import history as history_of
from etalumis.diagnostics.files import write_diagnostics
from etalumis.diagnostics.quantities import quantities_of
from etalumis.errors import DatasetError, SimulatorError
from etalumis.figures import (
    binning,
    captions,
    chains,
    event_display,
    frequency,
    inputs,
    loss,
    make,
    observation,
    pairs,
    particles,
    posteriors,
    predictive_check,
    series,
    style,
)
from etalumis.inference.predictive import PredictiveCheck
from etalumis.paths import FIGURES_WITH_NUMBERS, figures_of
from etalumis.traces import observation as observation_file
from etalumis.traces.format import Provenance
from etalumis.traces.observation import Observation, ObservedStatement
from etalumis.training.history import HistoryRow, write_history

MOMENTUM = Config().simulator.momentum_gev.model_dump()
LABELS = ["e⁻ K\N{COMBINING MACRON}_S", "x", "π⁻ η", "y", "π⁻ 2π⁰ K_S"]


def panels(figure):
    """Return the axes of a figure by the text under them."""
    return {axes.get_xlabel(): axes for axes in figure.axes}


def all_text(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def assert_nothing_is_clipped(figure):
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    # a hundredth of an inch of slack for the rounding of text extents
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01


@pytest.fixture(scope="module")
def pair():
    return [tau_posterior(), tau_posterior("ic", 4000, seed=1, log_weight_sd=0.5)]


@pytest.fixture(scope="module")
def figure8(pair):
    return posteriors.draw(pair, diagnose(pair), MOMENTUM, LABELS)


def event(shape=(20, 35, 35)):
    expected = np.zeros(shape)
    expected[5, 20, 10] = 7.0
    value = expected + np.random.default_rng(0).normal(0, 0.2, size=shape)
    return Observation(
        observed={"calorimeter": ObservedStatement(value, expected, 0.2)},
        left_out=(),
        seed=1,
        source="test-000.h5 trace 0",
        trace_seed=2,
        truth={},
        named={},
        latents={"a__1": 0.5},
        provenance=Provenance(model="test"),
    )


def test_figure8_has_the_paper_s_panels_with_units(figure8):
    axes = panels(figure8.figure)
    assert {"$p_x$ [GeV]", "$p_y$ [GeV]", "$p_z$ [GeV]", "$E_1$ [GeV]", "$E_2$ [GeV]", "missing $E_T$ [GeV]"} <= set(
        axes
    )
    assert len(figure8.figure.axes) == 8
    assert "decay channel" in all_text(figure8.figure)


def test_figure8_shows_the_whole_prior_of_the_momentum(figure8):
    axes = panels(figure8.figure)
    assert axes["$p_x$ [GeV]"].get_xlim() == (-3.0, 3.0)
    assert axes["$p_z$ [GeV]"].get_xlim() == (42.0, 48.0)


def test_figure8_draws_the_truth_as_a_dashed_line_where_it_is(figure8):
    axes = panels(figure8.figure)
    places = {
        "$p_x$ [GeV]": TRUTH["momentum"][0],
        "$p_y$ [GeV]": TRUTH["momentum"][1],
        "$E_2$ [GeV]": TRUTH["energies"][1],
        "missing $E_T$ [GeV]": TRUTH["missing_et"],
    }
    for label, truth in places.items():
        (line,) = axes[label].get_lines()
        assert line.get_xdata()[0] == pytest.approx(float(truth))
        assert line.get_linestyle() == "--"


def test_figure8_fills_rmh_and_outlines_ic_with_unit_area(figure8):
    rmh, ic = panels(figure8.figure)["$p_y$ [GeV]"].patches
    assert rmh.get_fill()
    assert not ic.get_fill()
    for step in (rmh, ic):
        density, edges, _ = step.get_data()
        assert (density * np.diff(edges)).sum() == pytest.approx(1.0)


def test_an_engine_that_is_not_reliable_is_not_drawn_like_a_result():
    good, bad = tau_posterior(), tau_posterior("ic", seed=1, log_weight_sd=6.0)
    drawing = posteriors.draw([bad, good], diagnose([bad, good]), MOMENTUM, LABELS)
    for key in ("$p_x$ [GeV]", "missing $E_T$ [GeV]"):
        rmh, ic = panels(drawing.figure)[key].patches
        assert rmh.get_hatch() is None
        assert ic.get_linestyle() not in ("-", "solid")
        assert ic.get_linewidth() < 1.0
        # the few heavy draws of the unreliable engine do not set the scale
        assert panels(drawing.figure)[key].get_ylim()[1] == pytest.approx(1.15 * rmh.get_data()[0].max())
    assert "thin and dotted: IC, not to be read as a result" in drawing.caption
    words = all_text(drawing.figure)
    assert "Rely on RMH, which passed its own checks; not on IC." in words
    assert "IC: not reliable" in words
    apart = [tau_posterior(shift=2.0)]
    (px,) = panels(posteriors.draw(apart, diagnose(apart), MOMENTUM).figure)["$p_x$ [GeV]"].patches
    assert px.get_hatch()
    assert px.get_facecolor()[3] == 0.0


def test_four_engines_and_the_prior_share_a_panel():
    engines = [tau_posterior(), tau_posterior("network_rmh"), tau_posterior("smc"), tau_posterior("ic")]
    prior = {
        name: np.repeat(np.asarray(value)[None], 300, axis=0) + np.linspace(0, 1, 300).reshape(-1, *[1] * value.ndim)
        for name, value in TRUTH.items()
    }
    drawing = posteriors.draw(engines, diagnose(engines), MOMENTUM, LABELS, prior)
    steps = panels(drawing.figure)["$p_y$ [GeV]"].patches
    assert [step.get_fill() for step in steps] == [True, True, False, False, False]
    widths = [step.get_linewidth() for step in steps[2:]]
    assert widths == sorted(widths, reverse=True)  # the later ones do not hide the earlier ones
    assert len(set(widths)) == 3
    density, edges, _ = steps[0].get_data()  # the prior
    assert (density * np.diff(edges)).sum() == pytest.approx(1.0)
    legend = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert [line.partition(":")[0] for line in legend] == [
        "RMH", "RMH with network moves", "SMC", "IC", "prior, 300 traces", "truth", " ", " ",
    ]  # fmt: skip
    assert_nothing_is_clipped(drawing.figure)


def test_reliable_chains_are_filled():
    doubtful, good = tau_posterior(shift=3.0), tau_posterior("network_rmh")
    shown = series.of_posteriors([doubtful, good], diagnose([doubtful, good]))
    assert [(each.engine, each.filled, each.reliable) for each in shown] == [
        ("network_rmh", True, True),
        ("rmh", False, False),
    ]
    assert "Filled: RMH with network moves." in captions.figure8(diagnose([doubtful, good]), LABELS)
    assert series.filled_engine(diagnose([doubtful])) == "rmh"


def test_draws_of_small_weight_do_not_set_the_axes():
    ic = tau_posterior("ic", 4000)
    far = np.arange(4000) >= 400  # nine of ten draws lie elsewhere, with almost no weight
    ic.values["missing_et"][far] += 500.0
    ic.log_weight[far] = -60.0
    (axis,) = [q for q in quantities_of(ic.values) if q.key == "missing_et"]
    low, high = binning.axis_range(axis, [series.of_posteriors([ic], diagnose([ic]))[0].samples(axis)], 0.7)
    assert 0.0 <= low < 0.7 < high < 5.0
    drawing = posteriors.draw([ic], diagnose([ic]), MOMENTUM)
    assert panels(drawing.figure)["missing $E_T$ [GeV]"].get_xlim() == (low, high)
    assert "including neutrinos" in drawing.caption


def test_histogram_is_weighted():
    heavy = tau_posterior("ic", 1000)
    heavy.log_weight[:] = np.where(heavy.values["momentum"][:, 0] > 0.8, 0.0, -np.inf)
    drawing = posteriors.draw([heavy], diagnose([heavy]), MOMENTUM)
    (step,) = panels(drawing.figure)["$p_x$ [GeV]"].patches
    density, edges, _ = step.get_data()
    assert density[edges[1:] <= 0.8].sum() == 0
    assert (density * np.diff(edges)).sum() == pytest.approx(1.0)


def test_the_numbers_of_figure8_are_those_of_the_draws(figure8, pair):
    def rows(quantity, engine):
        return [row for row in figure8.rows if (row["quantity"], row["engine"]) == (quantity, engine)]

    for posterior in pair:
        channel, weight = np.asarray(posterior.values["channel"]), np.exp(posterior.log_weight)
        for row in rows("channel", posterior.engine):
            assert row["low"] == row["high"]
            share = weight[channel == row["low"]].sum() / weight.sum()
            assert row["probability"] == pytest.approx(share, abs=0.02)  # the weights of a figure are smoothed
    (rmh,) = (posterior for posterior in pair if posterior.engine == "rmh")
    py = np.asarray(rmh.values["momentum"])[:, 1]
    for row in rows("py", "rmh"):
        inside = (py >= row["low"]) & (py < row["high"])
        assert row["probability"] == pytest.approx(inside.mean(), abs=1.5 / len(py))  # the last bin has both edges
    (truth,) = rows("py", "truth")
    assert truth["low"] == truth["high"] == rmh.truth["momentum"][1]
    assert {row["quantity"] for row in figure8.rows} == {
        "px", "py", "pz", "energy_1", "energy_2", "missing_et", "channel",
    }  # fmt: skip


def test_channel_bars_are_named_and_sum_to_one(figure8):
    (axes,) = [a for a in figure8.figure.axes if "decay channel" in a.get_title()]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[:2] == ["π⁻ 2π⁰ $\\mathrm{K}_{S}$", "e⁻ $\\mathrm{\\bar{K}}_{S}$"]
    assert names[-1] == "all others"
    bars = [bar.get_width() for container in axes.containers for bar in container]
    assert sum(bars[: len(names)]) == pytest.approx(1.0)
    assert sum(bars[len(names) :]) == pytest.approx(1.0)


def test_contour_level_encloses_its_mass():
    x = np.linspace(-5, 5, 201)
    density = np.exp(-0.5 * (x[:, None] ** 2 + x[None, :] ** 2))
    # a normal density in two dimensions has 68 % of its mass above exp(-r^2 / 2) = 0.32
    assert binning.mass_level(density, 0.68) == pytest.approx(0.32, abs=0.005)


def test_caption_of_figure8_prints_rhat_ess_khat_and_the_verdicts():
    pair = [tau_posterior(shift=1.0), tau_posterior("ic", seed=1, log_weight_sd=0.5)]
    result = diagnose(pair)
    drawing = posteriors.draw(pair, result, MOMENTUM, LABELS)
    rhat = result["engines"]["rmh"]["quantities"]["px"]["rhat"]
    khat = result["engines"]["ic"]["weights"]["khat"]
    for text in (drawing.caption, all_text(drawing.figure)):
        assert f"R-hat {rhat:.3f} (px)" in text
        assert f"k-hat {khat:.2f}" in text
        assert "RMH: not converged" in text
    assert "| 4 | π⁻ 2π⁰ K_S |" in drawing.caption


@pytest.mark.parametrize("case", ["no weight", "one chain", "constant", "absent", "few draws"])
def test_figures_of_degenerate_posteriors_say_what_is_missing(case):
    rmh, ic = tau_posterior(), tau_posterior("ic", seed=1)
    if case == "no weight":
        ic.log_weight[:] = -np.inf
    elif case == "one chain":
        rmh = tau_posterior(chains=1)
    elif case == "constant":
        for name, values in rmh.values.items():
            values[:] = TRUTH[name]
    elif case == "absent":
        rmh.values["missing_et"][::2] = np.nan
    else:
        rmh, ic = tau_posterior(draws=4), tau_posterior("ic", draws=2, chains=1)
    drawings = list(make.drawings(inputs.FigureInputs(Config(), [rmh, ic])))
    assert [drawing.stem for drawing in drawings][:2] == ["figure8_posteriors", "posterior_pairs"]
    assert len(drawings) == 5
    assert_nothing_is_clipped(drawings[0].figure)
    text = drawings[0].caption + "".join(all_text(drawing.figure) for drawing in drawings)
    words = {
        "no weight": "all 2,000 draws have weight zero",
        "one chain": "only one chain",
        "constant": "never changed",
        "absent": "not in every draw",
        "few draws": "too few non-zero weights",
    }
    assert words[case] in text


def test_no_label_is_clipped(figure8, pair):
    for drawing in (
        figure8,
        loss.draw(history()),
        frequency.draw(np.array([50, 9, 1]), np.arange(60)),
        make.show_observation(event(), Config()),
        *chains.draw_all(pair[0]),
    ):
        assert_nothing_is_clipped(drawing.figure)


def test_figure7_draws_both_losses_and_the_prior():
    losses = history()
    drawing = loss.draw(losses)
    axes = drawing.figure.axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["validation"].get_ydata(), losses.valid_loss)
    np.testing.assert_array_equal(lines["training"].get_ydata(), losses.train_loss)
    assert lines["prior as proposal"].get_ydata()[0] == 30.0
    low, high = axes.get_ylim()
    assert low < 17.0 < 30.0 < high
    assert axes.get_ylabel() == "loss [nats per trace]"
    assert "below the prior's 30.000" in drawing.caption


def test_figures_7_and_8_say_seed_machine_and_what_the_paper_had(tmp_path, pair, monkeypatch):
    row = dict.fromkeys(HistoryRow.__dataclass_fields__, 1)
    write_history(tmp_path / "history.csv", [HistoryRow(**row)])
    about = {"seed": 7, "world_size": 2, "processor": "Chip 9000", "hyperparameters": {}}
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(history_of, "read_manifest", lambda folder: {"training": about})
    caption = loss.draw(history_of.load(tmp_path)).caption
    assert "Seed 7. Machine: 2 ranks on Chip 9000. The paper: " in caption
    unknown = loss.draw(history()).caption
    assert "Seed" not in unknown
    assert "Machine" not in unknown
    report = diagnose(pair)
    report["engines"]["ic"]["info"] = {"seed": 3, "parts": [{"processor": "Chip 1"}, {"processor": "Chip 2"}]}
    assert "Seeds 0, 3. Machine: Chip 1, Chip 2. The paper: RMH" in captions.figure8(report, LABELS)


def test_figure7_shades_the_noise_ramp_and_leaves_out_a_last_mean_over_few_traces():
    losses = history()
    seen = losses.traces_seen.copy()
    seen[-1] = seen[-2] + 0.1 * (seen[-2] - seen[-3])
    drawing = loss.draw(replace(losses, ramp_end=50_000.0, traces_seen=seen))
    axes = drawing.figure.axes[0]
    (shade,) = axes.patches
    assert (shade.get_x(), shade.get_width()) == (0, 50_000.0)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert len(lines["training"].get_xdata()) == len(lines["validation"].get_xdata()) - 1
    assert "not overfitting" in drawing.caption
    assert not loss.draw(losses).figure.axes[0].patches


def test_the_end_of_the_noise_ramp_comes_from_the_manifest():
    row = dict.fromkeys(HistoryRow.__dataclass_fields__, 0.5)
    rows = [
        HistoryRow(**row | {"iteration": i, "traces": 100 * i, "epoch": 0, "elapsed_s": 6.0 * i}) for i in range(11)
    ]
    settings = {"max_minutes": 1.0, "max_traces": None, "noise_start": 0.1, "noise_ramp_share": 0.25}
    assert history_of._ramp_end(rows, settings) == pytest.approx(250.0)
    assert np.isnan(history_of._ramp_end(rows, settings | {"noise_ramp_share": 0.0}))
    assert np.isnan(history_of._ramp_end(rows, {}))


def test_figure7_of_a_plateau_says_so():
    assert "has not learned" in loss.draw(history(final=30.0, noise=0.5)).caption


def test_figure7_without_validation_does_not_crash():
    losses = history()
    drawing = loss.draw(replace(losses, valid_loss=np.full_like(losses.valid_loss, np.nan)))
    assert "No validation loss" in drawing.caption
    assert "prior" in loss.draw(replace(losses, prior_loss=float("nan"))).caption
    nothing = {f: np.empty(0) for f in ("iteration", "traces_seen", "train_loss", "valid_loss")}
    assert "No iteration" in loss.draw(replace(losses, **nothing)).caption


def test_the_observation_is_shown_on_one_scale_with_the_signal_and_the_particles_outlined():
    final_state = np.array([[-211, 20.0, 0.4, -0.8, 19.9], [16, 5.0, 0.1, 0.0, 4.9]])
    shower = np.zeros((20, 35, 35))
    shower[5:9, 20:23, 10:13] = 7.0
    one = replace(event(), truth={"final_state": final_state})
    noisy = one.observed["calorimeter"].value + shower
    one = replace(one, observed={"calorimeter": ObservedStatement(noisy, shower, 0.2)})
    drawing = make.show_observation(one, Config())
    pictures = [axes for axes in drawing.figure.axes if axes.get_images()]
    assert len(pictures) == 3
    assert len({axes.get_images()[0].get_clim() for axes in pictures}) == 1
    cell = Config().simulator.calorimeter.cell_cm
    along_the_beam = pictures[0].get_images()[0]
    assert np.unravel_index(np.argmax(along_the_beam.get_array()), (35, 35)) == (21, 11)
    assert along_the_beam.get_extent() == [-17.5 * cell, 17.5 * cell, -17.5 * cell, 17.5 * cell]
    outline = pictures[0].collections[0].get_paths()[-1].vertices
    assert abs(outline[:, 0].mean() - (11 - 17) * cell) < cell
    pion = next(line for line in pictures[0].get_lines() if line.get_xdata()[0] > 4)
    distance = Config().simulator.calorimeter.distance_cm
    assert pion.get_xdata()[0] == pytest.approx(distance * 0.4 / 19.9)
    assert pion.get_ydata()[0] == pytest.approx(distance * -0.8 / 19.9)
    assert "true π⁻ 20.0 GeV" in all_text(drawing.figure)
    assert "(invisible)" in all_text(drawing.figure)
    # 36 voxels of 7 GeV, noise of 0.2 GeV: a matched filter finds sqrt(36) * 7 / 0.2
    assert "stand out by 210.0 standard deviations" in drawing.caption
    assert_nothing_is_clipped(drawing.figure)


def test_event_display_shows_where_the_tau_would_have_hit_the_face(pair):
    truth = {"final_state": np.array([[-211, 20.0, 0.4, -0.8, 19.9]]), "momentum": np.array([0.9, -0.9, 45.0])}
    given = inputs.FigureInputs(Config(), pair, diagnose(pair), observation=replace(event(), truth=truth))
    drawing = make.show_event(given)
    space, face = drawing.figure.axes[:2]
    distance = Config().simulator.calorimeter.distance_cm
    (star,) = [line for line in face.get_lines() if line.get_marker() == "*"]
    assert star.get_xdata()[0] == pytest.approx(distance * 0.9 / 45.0)
    # the posterior of p_x has sd 0.4, and is smoothed by 1.6 cells of 1 cm; the 95 % region ends at 2.45 sd
    sd = np.hypot(0.4 * distance / 45.0, 1.6)
    widest = max(np.ptp(path.vertices[:, 0]) for path in face.collections[0].get_paths())
    assert widest == pytest.approx(2 * 2.45 * sd, rel=0.15)
    assert len(space.collections[0].get_offsets()) == 250
    assert "inferred flight, RMH" in all_text(drawing.figure)
    assert "RMH and IC" in drawing.caption
    alone = make.show_event(inputs.FigureInputs(Config(), observation=event()))
    assert "Contours" not in alone.caption
    assert "Filled" not in drawing.caption  # these posteriors lack what is needed for it


def test_visible_particles_are_boosted_by_the_momentum_of_the_tau():
    """Against the Lorentz transformation to the rest frame, as a matrix."""
    mass, tau = 1.777, np.array([0.7, -1.1, 44.0])
    energy = np.sqrt(mass**2 + tau @ tau)
    gamma, beta = energy / mass, tau / energy
    to_rest = np.eye(4)
    to_rest[0, 0], to_rest[0, 1:], to_rest[1:, 0] = gamma, -gamma * beta, -gamma * beta
    to_rest[1:, 1:] += (gamma - 1.0) * np.outer(beta, beta) / (beta @ beta)
    electromagnetic, hadronic = np.array([20.0, 0.3, -0.4, 19.9]), np.array([12.0, -0.2, 0.1, 11.8])
    at_rest = np.concatenate([to_rest @ electromagnetic, to_rest @ hadronic, np.zeros(4)])
    (found,) = particles.visible_flights({"momentum": tau[None], "visible_at_rest": at_rest[None]}, 100.0)
    expected = [100.0 * p[1:3] / p[3] for p in (electromagnetic, hadronic)]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-9)
    assert np.isnan(found[2]).all()  # no energy of this kind
    assert particles.visible_flights({"momentum": tau[None]}, 100.0).shape == (1, 0, 2)


def test_event_display_shows_the_inferred_visible_particles(pair):
    """An electron that takes all the energy of a tau, at rest in the direction of the beam."""
    at_rest = np.zeros((len(pair[1]), 12))
    at_rest[:, :4] = 0.888, 0.0, 0.0, 0.888
    given = replace(pair[1], values={**pair[1].values, "visible_at_rest": at_rest})
    drawing = make.show_event(inputs.FigureInputs(Config(), [given], diagnose([given]), observation=event()))
    assert "filled, thin lines: inferred visible particles" in all_text(drawing.figure)
    assert "Filled: where visible particles hit it" in drawing.caption
    filled, _ = drawing.figure.axes[1].collections
    corners = np.concatenate([path.vertices for path in filled.get_paths()])
    distance = Config().simulator.calorimeter.distance_cm
    centre = distance * given.values["momentum"][:, :2].mean(axis=0) / given.values["momentum"][:, 2].mean()
    above, _ = drawing.figure.axes[2:4]
    lines = [line for line in above.get_lines() if line.get_linewidth() < 1.0]
    assert len(lines) == event_display.INFERRED_LINES
    ends = np.array([line.get_ydata() for line in lines])  # at the first and the last layer
    depth = 20 * Config().simulator.calorimeter.layer_cm
    np.testing.assert_allclose(ends[:, 1], ends[:, 0] * (1.0 + depth / distance), atol=1e-9)
    assert ends[:, 0].mean() == pytest.approx(centre[0], abs=2.0)
    # the region of 68 % of the same density as of the tau, which it follows at this angle
    np.testing.assert_allclose(0.5 * (corners.max(axis=0) + corners.min(axis=0)), centre, atol=2.0)


@pytest.mark.parametrize(
    ("probability", "error", "text"),
    [
        (0.0810, 0.0093, "0.0810 ± 0.0093"),
        (0.0, 1.2e-16, "< 0.0001"),
        (3e-6, None, "< 0.0001"),
        (3e-6, 2e-3, "0.0000 ± 0.002"),
        (0.5, None, "0.5000 ± -"),
        (1e-6, float("nan"), "< 0.0001"),
    ],
)
def test_probabilities_with_errors(probability, error, text):
    assert captions.probability_with_error(probability, error) == text


def predicted(posterior, expected):
    """Add a predictive check with given expected energies to a posterior."""
    columns = [np.zeros(3), np.full(3, 0.4), np.full(3, 1e-4), np.full(3, 36.0)]
    return replace(posterior, predictive=PredictiveCheck(*columns, {"calorimeter": expected}))


def test_the_predictive_check_shows_what_is_not_expected(pair):
    one = event()
    truth = one.observed["calorimeter"].expected
    shifted = np.roll(truth, 3, axis=2)
    good, bad = (
        make.show_prediction(inputs.FigureInputs(Config(), [predicted(pair[0], image)]), one)
        for image in (truth, shifted)
    )
    largest = [
        max(np.abs(axes.images[0].get_array()).max() for axes in d.figure.axes if axes.images) for d in (good, bad)
    ]
    assert largest[0] < 5.0 < largest[1]
    assert "RMH: does not explain the observation" in good.caption
    assert "with signal (1)" in all_text(good.figure)
    assert_nothing_is_clipped(good.figure)
    absent = make.show_prediction(inputs.FigureInputs(Config(), pair), one)
    assert "no engine has a predictive check" in all_text(absent.figure)


def test_the_predictive_check_is_that_of_a_reliable_engine(pair):
    doubtful = predicted(tau_posterior("rmh", chains=1), np.zeros((20, 35, 35)))
    both = [doubtful, predicted(pair[1], np.zeros((20, 35, 35)))]
    assert predictive_check.choose(both, diagnose(both)) is both[1]
    assert predictive_check.choose(both[:1], diagnose(both[:1])) is doubtful


def test_pairs_show_what_the_quantities_have_in_common_of_reliable_engines_only():
    rng = np.random.default_rng(3)
    x = rng.normal(size=4000)
    values = {"x": x, "y": x + 0.1 * rng.normal(size=4000)}
    good = posterior_of(values, "rmh")
    bad = posterior_of(values, "ic", log_weight=8.0 * rng.normal(size=4000))
    both = [good, bad]
    drawing = pairs.draw(both, diagnose(both), {})
    shown = [axes for axes in drawing.figure.axes if axes.axison]
    assert len(shown) == 3  # two histograms and one pair
    (pair,) = [axes for axes in shown if axes.get_ylabel() == "y"]
    outer = pair.collections[0].get_paths()[0].vertices
    assert np.corrcoef(outer.T)[0, 1] > 0.9
    assert "IC" not in all_text(drawing.figure)
    assert "1 engine that failed its own check is left out" in drawing.caption
    assert f"| x, y | {np.corrcoef(x, values['y'])[0, 1]:.2f} |" in drawing.caption
    assert_nothing_is_clipped(drawing.figure)


def test_significance_of_pure_noise_has_unit_variance():
    noise = np.random.default_rng(1).normal(0, 0.3, size=(20, 35, 35))
    for summed in range(3):
        picture = observation.significance(noise, summed, 0.3)
        # about 1225 / (4 pi) independent values: the variance of the mean square is 2 / 97, times three for safety
        assert np.mean(picture**2) == pytest.approx(1.0, abs=3 * np.sqrt(2 / 97))
        assert np.mean(picture[:, :2] ** 2) == pytest.approx(1.0, abs=0.8)  # at the edge, too


def test_event_display_without_geometry_counts_voxels():
    assert "depth" in panels(make.show_observation(event(), None).figure)


@pytest.fixture(scope="module")
def discrete():
    """Posteriors of a model with a boolean, a count, and constants whose draws differ in their last digits."""
    found = []
    for seed, engine in enumerate(("rmh", "ic")):
        rng = np.random.default_rng(seed)
        rounding = 1 + 4e-16 * rng.integers(-2, 3, size=2000)
        values = {"flag": rng.random(2000) < 0.3, "n": rng.poisson(4, 2000), "m": 8 * rounding, "mass": 0.1 * rounding}
        found.append(posterior_of(values, engine, truth={"flag": 1, "m": 8.0}))
    return found


def test_discrete_quantities_have_a_bin_for_each_value(discrete):
    axes = panels(posteriors.draw(discrete, diagnose(discrete), {}).figure)
    for name, highest in (("flag", 1), ("n", 10)):
        probability, edges, _ = axes[name].patches[0].get_data()
        np.testing.assert_allclose(edges % 1, 0.5)
        np.testing.assert_allclose(np.diff(edges), 1)
        assert edges[0] == -0.5
        assert edges[-1] > highest
        assert probability.sum() == pytest.approx(1, abs=0.01)
        assert axes[name].get_ylabel() == "probability"
    assert axes["flag"].patches[0].get_data()[0][1] == pytest.approx(np.mean(discrete[0].values["flag"]))


def test_constants_are_written_into_their_panels(discrete):
    drawings = [posteriors.draw(discrete, diagnose(discrete), {}), *chains.draw_all(discrete[0])]
    for drawing in drawings:
        assert_nothing_is_clipped(drawing.figure)
        assert "never changed: always 8" in all_text(drawing.figure)
        assert "never changed: always 0.1" in all_text(drawing.figure)


def test_names_are_shown_as_they_are_not_as_formulas(tmp_path):
    names = (r"$\mu_{$", "a_b^c$", "<b>|x|`", "50% $x")
    rng = np.random.default_rng(5)
    values = {name: rng.normal(size=400) for name in names}
    posterior = posterior_of(values, "rmh")
    for drawing in [posteriors.draw([posterior], diagnose([posterior]), {}), *chains.draw_all(posterior)]:
        style.save(drawing, tmp_path, ["png"])
        shown = all_text(drawing.figure).replace(r"\$", "$")
        assert all(name in shown for name in names)


def test_ranks_of_a_boolean_are_flat(discrete):
    rank = chains.draw_all(discrete[0])[1].figure
    (flag,) = [axes for axes in rank.axes if axes.get_ylabel() == "flag: draws"]
    first, second = (step.get_data()[0] for step in flag.patches)
    np.testing.assert_array_equal(first + second, np.full(20, 100))
    # the count of a bin has a standard deviation of about sqrt(100) / 2 = 5: four of it
    assert np.abs(first - 50).max() <= 20


def test_captions_of_other_models_do_not_speak_of_the_tau_decay(discrete):
    drawings = [posteriors.draw(discrete, diagnose(discrete), {}), *chains.draw_all(discrete[0])]
    for drawing in drawings:
        words = drawing.title + drawing.caption
        assert not any(word in words for word in ("paper", "decay", "channel", "calorimeter", "momentum"))


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (45.18732, 0.0423, "45.187 ± 0.042"),
        (1776.86, 0.0023, "1,776.8600 ± 0.0023"),
        (1776.86, 31.2, "1,777 ± 31"),
        (-0.5, 2e-15, "-0.5 ± 2e-15"),
        (8.0, float("nan"), "8"),
        (8.0, 0.0, "8"),
        (float("nan"), float("nan"), "-"),
    ],
)
def test_a_mean_has_the_digits_that_its_error_leaves(mean, error, text):
    assert captions.with_error(mean, error) == text


def test_many_chains_share_colours_and_are_all_in_the_legend():
    (legend,) = chains.draw_all(posterior_of({"x": np.arange(90.0)}, chains=9))[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()][:3] == ["chain 0, 7", "chain 1, 8", "chain 2"]


def test_many_channels_are_shown_as_the_frequent_ones_and_the_others():
    codes = np.repeat(np.arange(20.0), np.arange(1, 21))
    draws = np.stack([codes, np.roll(codes, 7)])
    with style.style():
        axes = style.new_figure(3.0, 3.0).subplots()
        chains.code_panel(axes, draws)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [*map(str, range(19, 12, -1)), "other"]
    counts = [bar.get_width() for bar in axes.patches]
    assert len(counts) == 2 * chains.MAX_CODES
    assert counts[: chains.MAX_CODES] == [*range(20, 13, -1), 91]  # nothing is left out
    assert sum(counts) == draws.size


def test_chains_name_channels_and_correlate_an_indicator_not_the_codes():
    posterior = tau_posterior()
    codes = np.tile([0.0, 0.0, 4.0, 23.0], 500)  # the most frequent code comes in every period of four draws twice
    posterior.values["channel"] = codes
    trace, rank, correlation = chains.draw_all(posterior, LABELS)
    for drawing in (trace, rank):
        assert "e⁻ $\\mathrm{\\bar{K}}_{S}$" in all_text(drawing.figure)
        assert "channel 23" in all_text(drawing.figure)
    (axes,) = [a for a in correlation.figure.axes if a.get_ylabel().startswith("being ")]
    first = axes.get_lines()[0].get_ydata()
    # indicators 1 1 0 0: correlation 0 at lag 1, -1 at lag 2, 1 at lag 4; renumbering the channels changes nothing
    assert first[1] == pytest.approx(0.0, abs=0.02)
    assert first[2] == pytest.approx(-1.0, abs=0.02)
    posterior.values["channel"] = np.where(codes == 23.0, 2.0, codes)
    again = chains.draw_all(posterior, LABELS)[2].figure
    (axes,) = [a for a in again.axes if a.get_ylabel().startswith("being ")]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), first)


def test_each_engine_with_chains_has_its_own_figures():
    stems = [d.stem for engine in ("rmh", "network_rmh") for d in chains.draw_all(tau_posterior(engine))]
    assert stems[0] == "chains_trace"
    assert "chains_trace_network_rmh" in stems
    assert len(set(stems)) == 6


def test_frequencies_are_ranked():
    drawing = frequency.draw(np.array([1, 90, 9]), np.full(100, 12))
    (line,) = drawing.figure.axes[0].get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [90, 9, 1])
    assert "100 traces of 3 types. The most frequent type has 90.0 %" in drawing.caption
    assert "types that occur once: 1." in drawing.caption
    assert "9 traces of 1 type. " in frequency.draw(np.array([9]), np.full(9, 12)).caption


def test_chain_figures_show_every_quantity_of_every_chain(pair):
    trace, rank, correlation = chains.draw_all(pair[0])
    for drawing in (trace, rank, correlation):
        assert [t.get_text() for t in drawing.figure.legends[0].get_texts()] == ["chain 0", "chain 1"]
    assert "$p_x$ [GeV]" in all_text(trace.figure)
    assert "1,000 sweeps of burn-in, one draw per 5 sweeps" in trace.caption
    assert "to the hottest and back" not in trace.caption
    px = rank.figure.axes[0]
    counts = sum(step.get_data()[0] for step in px.patches)
    np.testing.assert_array_equal(counts, np.full(20, 100))
    first = correlation.figure.axes[0].get_lines()[0]
    assert first.get_ydata()[0] == pytest.approx(1.0)


def test_captions_of_chain_figures_have_their_numbers(pair):
    report = diagnose(pair)["engines"]["rmh"]
    px = report["quantities"]["px"]
    for drawing in chains.draw_all(pair[0], None, report):
        each = report["draws"] / px["ess"]
        assert f"| px | {px['rhat']:.3f} | {px['ess']:,.0f} | {each:,.1f} |" in drawing.caption


def test_captions_of_tempered_chains_count_round_trips():
    posterior = tau_posterior()
    posterior.info["parts"] = [{"round_trips": 3}, {"round_trips": 4}]
    assert "to the hottest and back 7 times" in chains.draw_all(posterior)[0].caption


def test_channels_without_a_name_have_their_number():
    assert captions.channel_name(1, ["a", "b "]) == "b"
    assert captions.channel_name(3, None) == captions.channel_name(3, ["x"]) == "channel 3"


def written_run(folder, pair):
    """Write the files that the previous stages produce."""
    for posterior in pair:
        posterior.save(folder / f"{posterior.engine}.h5")
    if pair:
        write_diagnostics(folder / "diagnostics.json", diagnose(pair))
    (folder / "config.yaml").write_text(config.to_yaml(Config()))
    row = dict.fromkeys(HistoryRow.__dataclass_fields__, 0.5) | {"epoch": 0, "addresses": 7, "discarded": 0}
    rows = [
        HistoryRow(**row | {"iteration": i, "traces": 64 * i, "valid_loss": 20 - i, "prior_loss": 21.0})
        for i in (1, 2, 3)
    ]
    (folder / "network").mkdir()
    write_history(folder / "network" / "history.csv", rows)
    (folder / "build.json").write_text(json.dumps({"channels": [{"index": 0, "name": "π⁻ η"}]}))
    observation_file.save(event(), folder / "observation.h5")


def arguments(folder, words):
    """Return the arguments of a call, with paths for the words that name a file in `folder`."""
    return ["figures", *(str(folder / word) if (folder / word).exists() or word == "out" else word for word in words)]


def test_command_line_draws_the_figures_of_the_files_it_is_given(tmp_path, pair, capsys):
    written_run(tmp_path, pair)
    words = [
        "--config", "config.yaml", "--posteriors", "rmh.h5", "ic.h5", "--diagnostics", "diagnostics.json",
        "--network", "network", "--observation", "observation.h5", "--simulator", ".", "--format", "svg",
        "--output", "out",
    ]  # fmt: skip
    assert main(arguments(tmp_path, words)) == 0
    stems = set(figures_of(["rmh", "ic"])) - {"trace_frequency"}
    out = tmp_path / "out"
    expected = {f"{stem}.{s}" for stem in stems for s in ("svg", "md", "rst")} | {"summary.md", "summary.rst"}
    expected |= {f"{stem}.csv" for stem in FIGURES_WITH_NUMBERS}
    assert {path.name for path in out.iterdir()} == expected
    assert all(b"<svg " in path.read_bytes() for path in out.glob("*.svg"))
    assert "prior's 21.000" in (out / "figure7_loss.md").read_text()
    assert str(out / "figure8_posteriors.svg") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "formats"),
    [(["--config", "config.yaml"], {"png", "pdf"}), ([], {"png"}), (["--format", "pdf", "svg"], {"pdf", "svg"})],
)
def test_formats_are_those_of_the_call_else_of_the_configuration(tmp_path, options, formats):
    written_run(tmp_path, [])
    assert main(arguments(tmp_path, ["--network", "network", *options, "--output", "out"])) == 0
    signatures = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert {path.suffix[1:] for path in (tmp_path / "out").iterdir()} == {*formats, "md", "rst", "csv"}
    for name in formats:
        assert (tmp_path / "out" / f"figure7_loss.{name}").read_bytes().startswith(signatures[name])


@pytest.mark.parametrize("obstacle", ["a file", "below a file", "figure7_loss.png", "figure7_loss.csv"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, obstacle, capsys, monkeypatch):
    written_run(tmp_path, [])
    out = tmp_path / "out"
    if obstacle.startswith("figure7_loss"):
        (out / obstacle).mkdir(parents=True)
    else:
        out.write_text("in the way")
    monkeypatch.setattr(make, "drawings", lambda inputs: pytest.fail("drew before it checked the output"))
    output = out / "deeper" if obstacle == "below a file" else out
    assert main(["figures", "--network", str(tmp_path / "network"), "--output", str(output)]) == 1
    assert str(out) in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.tmp"))


def test_a_disk_that_fills_up_ends_in_one_message_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    written_run(tmp_path, [])

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    assert main(["figures", "--network", str(tmp_path / "network"), "--output", str(tmp_path / "out")]) == 1
    assert "figure7_loss.png: cannot be written (No space left on device)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_figures_are_reproducible_byte_for_byte(tmp_path):
    for name in ("a", "b"):
        style.save(frequency.draw(np.array([5, 2]), np.arange(7)), tmp_path / name, ("png", "pdf"))
    for suffix in ("png", "pdf", "md"):
        first, second = (tmp_path / name / f"trace_frequency.{suffix}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_unreadable_inputs_are_named(tmp_path):
    path = tmp_path / "observation.h5"
    with pytest.raises(DatasetError, match=r"observation\.h5"):
        inputs.read_observation(path)
    observation_file.save(replace(event(), observed={"flat": ObservedStatement(np.zeros(3), np.zeros(3), 0.2)}), path)
    with pytest.raises(DatasetError, match=r"expected an observation of shape \(depth, y, x\)"):
        inputs.read_observation(path)
    with pytest.raises(SimulatorError, match="simulator build"):
        inputs.read_channel_labels(tmp_path)
