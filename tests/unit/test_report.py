# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The report of a run: a page that a browser can show without another file, with links that lead somewhere."""

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic_posteriors import tau_posterior

from etalumis import config
from etalumis.cli import main
from etalumis.config import Config
from etalumis.diagnostics import diagnose
from etalumis.diagnostics.files import write_diagnostics
from etalumis.files import digest
from etalumis.paths import FIGURES_WITH_NUMBERS, Paths, figures_of
from etalumis.provenance.record import read_record
from etalumis.training.phases import COLUMNS, append_phases

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
)
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a page contains; elements have to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.ids, self.words = [], [], [], set(), ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values["id"]} if "id" in values else set()
        self.images += [values] if tag == "img" else []
        self.links += [values["href"]] if tag == "a" else []
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def finished(tmp_path):
    """Return the paths of a run with all that the report reads."""
    paths = Paths("demo", tmp_path / "results")
    engines = [tau_posterior(), tau_posterior("ic", seed=1, log_weight_sd=8.0)]
    engines[0].info["observation"] = "test-000.h5 trace 21 <script>"
    for folder in (paths.figures, paths.simulator, paths.network, paths.diagnostics.parent, paths.root / "posteriors",
                   paths.root / "traces", paths.observation.parent, paths.root / "benchmarks/traces"):  # fmt: skip
        folder.mkdir(parents=True)
    paths.config.write_text(config.to_yaml(Config()), encoding="utf-8")
    paths.observation.touch()
    for path in (paths.network / "history.csv", *(paths.figure(stem, "csv") for stem in FIGURES_WITH_NUMBERS)):
        path.touch()
    paths.benchmark("traces", "train-000").write_text("s\th:m:s\n75.0\t0\n", encoding="utf-8")
    write_diagnostics(paths.diagnostics, diagnose(engines))
    channels = [{"name": f"π⁻ K_S {number}"} for number in range(38)]
    paths.simulator_build.write_text(
        json.dumps({"sherpa_version": "3.0.3", "simulator_build_id": "b1", "channels": channels}), encoding="utf-8"
    )
    training = {"traces": 12345, "world_size": 2, "elapsed_s": 600.0}
    manifest = {"parameters": 6789012, "training": training, "config_digest": "c1", "tensors_sha256": "t1"}
    paths.network_manifest.write_text(json.dumps(manifest), encoding="utf-8")
    for stem in figures_of(Config().posteriors.engines):
        paths.figure(stem).write_bytes(PIXEL)
        paths.figure(stem, "md").write_text(
            f"# Title\n\nCaption of {stem}.\n\n| a |\n| --- |\n| 1 |\n", encoding="utf-8"
        )
    return paths


def report(paths):
    assert main(["report", "--run", str(paths.root), "--output", str(paths.report)]) == 0
    return Page(paths.report.read_text(encoding="utf-8"))


def test_the_page_holds_all_figures_and_its_links_lead_somewhere(finished):
    page = report(finished)
    stems = figures_of(Config().posteriors.engines)
    graphs = [image for image in page.images if image["src"].startswith("data:image/svg+xml;base64,")]
    assert ["The stages" in image["alt"] for image in graphs] == [True]
    figures = [image for image in page.images if image not in graphs]
    assert len(figures) == len(stems)
    assert {image["alt"] for image in figures} == {entry.title for entry in stems.values()}
    for image in figures:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == PIXEL
    assert set(stems) <= page.ids
    assert "make report" in page.words  # there is no report of the workflow to link to
    finished.workflow_report.touch()
    page = report(finished)
    assert "workflow.html" in page.links
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert not link.startswith("/")
            assert (finished.root / link).exists(), link
    text = finished.report.read_text(encoding="utf-8")
    assert "http" not in text.replace("<!DOCTYPE html>", "")  # nothing is loaded from elsewhere


def test_its_record_has_the_configuration_of_the_run(finished, capsys):
    report(finished)
    record = read_record(finished.report)
    settings = config.load(finished.config).model_dump(mode="json", by_alias=True, exclude={"simulator": {"prefix"}})
    assert record["configuration"] == settings
    assert record["config_digest"] == digest(settings)
    capsys.readouterr()
    main(["explain", str(finished.report)])
    said = capsys.readouterr().out
    assert f"; run.seed 1; simulator build b1; configuration {digest(settings)}" in said
    # as for every product with a configuration, a later key is no damage
    finished.config.write_text(
        finished.config.read_text(encoding="utf-8").replace("seed: 1", "seed: 7", 1), encoding="utf-8"
    )
    main(["explain", str(finished.report)])
    assert f"note      {finished.config} has another run.seed now: 7; it was 1" in capsys.readouterr().out


def test_the_verdicts_come_first_and_texts_of_files_are_escaped(finished):
    page = report(finished)
    assert page.words.index("Rely on RMH") < page.words.index("1. The question")
    assert page.words.index("IC: not reliable") < page.words.index("1. The question")
    assert "trace 21 <script>" in page.words
    assert "<script" not in finished.report.read_text(encoding="utf-8")
    assert "12,345 traces" in page.words
    assert "1 m 15 s" in page.words
    assert "π⁻ K<sub>S</sub> 4" in finished.report.read_text(encoding="utf-8")


def test_scaling_is_that_of_the_training_and_of_the_figures_that_exist(finished):
    assert "make paper-figures" in report(finished).words
    seconds = {"read": 0.01, "forward": 0.2, "backward": 0.4, "sync_wait": 0.2, "sync_move": 0.1, "update": 0.04}
    rows = np.zeros((3, 2, len(COLUMNS)))
    rows[:, :, : len(seconds)] = list(seconds.values())
    rows[:, 1, COLUMNS.index("forward")] += 0.2  # the second rank is slower: 0.65 and 0.85 s of work
    rows[:, 1, COLUMNS.index("sync_wait")] = 0.0
    rows[:, :, COLUMNS.index("traces")] = 60
    append_phases(finished.network / "phases.h5", 0, rows)
    for suffix, content in (("png", PIXEL), ("md", b"# Title\n\nFour ranks."), ("csv", b"ranks\n4\n")):
        finished.paper_figure("figure6", suffix).parent.mkdir(exist_ok=True)
        finished.paper_figure("figure6", suffix).write_bytes(content)
    page = report(finished)
    assert "126 traces per second on 2 ranks" in page.words  # 120 traces in 0.95 s
    assert "11.8 % less time" in page.words  # 1 - 0.75 / 0.85
    assert "waiting for other ranks100.010.5 %" in "".join(page.words.split("\n"))
    assert "make paper-figures" not in page.words
    assert {"figure6_scaling"} <= page.ids
    assert "experiments/figure6_scaling.csv" in page.links


def test_the_same_run_gives_the_same_page(finished):
    report(finished)
    first = finished.report.read_bytes()
    report(finished)
    assert finished.report.read_bytes() == first


@pytest.mark.parametrize(
    "missing", ["figures/figure7_loss.png", "simulator/build.json", "diagnostics/diagnostics.json"]
)
def test_a_missing_product_is_named(finished, missing, capsys):
    (finished.root / missing).unlink()
    assert main(["report", "--run", str(finished.root), "--output", str(finished.report)]) == 1
    error = capsys.readouterr().err
    assert missing in error
    assert "Traceback" not in error
    assert not finished.report.exists()
