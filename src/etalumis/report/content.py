# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the report says: read from the products of a run, in the order of the story."""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from etalumis import __version__
from etalumis.config import Config, load
from etalumis.diagnostics.files import read_diagnostics
from etalumis.diagnostics.headline import headline, own_checks, short_verdicts
from etalumis.errors import DatasetError
from etalumis.figures import markup, summary
from etalumis.files import read_json
from etalumis.paths import STAGES, Paths, figures_of
from etalumis.progress import duration
from etalumis.provenance import chain, software
from etalumis.report.scaling import Scaling, scaling
from etalumis.timings import stage_seconds
from etalumis.training.phases import FILE as PHASES_FILE

_BUILT_WITH = {"Sherpa": "sherpa_version", "compiler": "compiler"}
_SCALING = {"figure4": "Time by phase for several numbers of ranks", "figure6": "Weak scaling, measured and simulated"}
_DONE_BY = {
    "simulator": "Sherpa and a calorimeter, behind the PPX protocol",
    "traces": "runs from the prior, every random choice recorded",
    "sorted": "the traces in shards of equal type",
    "layers": "one network layer per random choice",
    "network": "learns proposals from the traces",
    "posteriors": "the engines, on one observation",
    "diagnostics": "can the posteriors be believed?",
    "figures": "figures and this page",
}


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes
    ----------
    stem, title : str
    source : str
        The image as a data URL, so that the page needs no other file.
    caption : str
        HTML.
    files : sequence of (str, str)
        Words and relative path of the figure in other formats, and of its data.
    """

    stem: str
    title: str
    source: str
    caption: str
    files: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow: its jobs and the time they took."""

    name: str
    purpose: str
    jobs: int
    longest: str
    total: str


@dataclass(frozen=True)
class Origin:
    """A product of the run and where it comes from, in words."""

    product: str
    command: str
    started: str
    took: str
    code: str
    remarks: Sequence[str]


@dataclass(frozen=True)
class Content:
    """Everything that the page shows."""

    run: str
    headline: Sequence[str]
    engines: Mapping[str, tuple[bool, str]]
    engine_table: str
    checks: Sequence[Mapping[str, Any]]
    config: Config
    config_text: str
    build: Mapping[str, Any]
    network: Mapping[str, Any]
    source: str
    truth: Sequence[tuple[str, str]]
    pictures: Sequence[Picture]
    scaling: Scaling | None
    stages: Sequence[Stage]
    stages_picture: str
    versions: Sequence[tuple[str, str]]
    origins: Sequence[Origin]
    remarks: Sequence[str]
    conclusion: str
    machines: Sequence[str]
    workflow_page: str | None

    def pictures_of(self, *stems: str) -> list[Picture]:
        """Return the figures whose stems begin with one of these."""
        return [picture for picture in self.pictures if picture.stem.startswith(stems)]


def collect(root: Path, output: Path) -> Content:
    """Read the products of a run.

    Parameters
    ----------
    root : Path
        Folder of the run, ``results/<run>``.
    output : Path
        Where the page will be, for the links to the data.

    Raises
    ------
    ConfigError, DatasetError
        If the folder does not hold a finished run; the message names the file.
    """
    root = root if root.name else root.resolve()
    config = load(root / "config.yaml")
    network = None if config.network.from_ is None else Path(config.network.from_)
    paths = Paths(root.name, root.parent, network_from=network)
    diagnostics = read_diagnostics(paths.diagnostics)
    passed, short = own_checks(diagnostics), short_verdicts(diagnostics)
    entries = figures_of(config.posteriors.engines)
    infos = [report["info"] for report in diagnostics["engines"].values()]
    steps = chain.trace_back(paths.figures)
    build = _read(paths.simulator_build, "etalumis simulator build")
    return Content(
        run=root.name,
        headline=headline(diagnostics),
        engines={engine: (passed[engine], short[engine]) for engine in passed},
        engine_table=markup.to_html("\n".join(summary.engine_table(diagnostics))),
        checks=diagnostics["checks"],
        config=config,
        config_text=paths.config.read_text(encoding="utf-8"),
        build=build,
        network=_read(paths.network_manifest, "etalumis network train"),
        source=next((str(info["observation"]) for info in infos if "observation" in info), "unknown"),
        truth=list(_truth(diagnostics, build)),
        pictures=[
            *(_picture(paths, stem, entry.title, output) for stem, entry in entries.items()),
            *_scaling_pictures(paths, output),
        ],
        scaling=scaling(paths.network / PHASES_FILE),
        stages=list(_stages(paths)),
        stages_picture=_data_uri((files("etalumis.report") / "stages.svg").read_bytes(), "svg+xml"),
        versions=[
            ("etalumis", __version__),
            *((name, str(build[key])) for name, key in _BUILT_WITH.items() if key in build),
            ("Python", platform.python_version()),
            *software.library_versions().items(),
        ],
        origins=list(_origins(steps, paths.root)),
        remarks=_common_remarks(steps),
        conclusion=chain.conclusion(steps),
        machines=list(dict.fromkeys(chain.machine_in_words(s.record["machine"]) for s in steps if s.record)),
        workflow_page=paths.workflow_report.name if paths.workflow_report.exists() else None,
    )


def _read(path: Path, verb: str) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); expected the product of `{verb}`") from error


def _truth(diagnostics: Mapping[str, Any], build: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and true values of the quantities, with the products of the true channel."""
    units = {key: s["unit"] for report in diagnostics["engines"].values() for key, s in report["quantities"].items()}
    names = [str(channel["name"]) for channel in build.get("channels", ())]
    for key, value in diagnostics["truth"].items():
        if key == "channel" and 0 <= int(value) < len(names):
            yield key, f"τ⁻ → {names[int(value)]}"
        else:
            yield key, f"{value:.4g} {units.get(key, '')}".strip()


def _picture(paths: Paths, stem: str, title: str, output: Path) -> Picture:
    return _read_picture(paths.figure(stem), title, _data_of(paths, stem), output)


def _scaling_pictures(paths: Paths, output: Path) -> Iterator[Picture]:
    """Yield those figures of several numbers of ranks that exist: `make paper-figures` makes them."""
    for target, title in _SCALING.items():
        image = paths.paper_figure(target)
        if image.exists():
            yield _read_picture(image, title, [("numbers", paths.paper_figure(target, "csv"))], output)


def _read_picture(image: Path, title: str, data_files: Sequence[tuple[str, Path]], output: Path) -> Picture:
    try:
        data, text = image.read_bytes(), image.with_suffix(".md").read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(
            f"{error.filename}: cannot be read ({error.strerror}); expected a figure with its caption, in PNG: draw it "
            "with `etalumis figures --format png`"
        ) from error
    others = [path for path in sorted(image.parent.glob(f"{image.stem}.*")) if path.suffix in (".png", ".pdf", ".svg")]
    return Picture(
        stem=image.stem,
        title=title,
        source=_data_uri(data, "png"),
        caption=markup.to_html(text.partition("\n")[2].strip()),
        files=[
            *((path.suffix[1:].upper(), _link(path, output)) for path in others),
            *((words, _link(path, output)) for words, path in data_files),
        ],
    )


def _data_uri(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _data_of(paths: Paths, stem: str) -> list[tuple[str, Path]]:
    """Return the files whose numbers a figure shows."""
    observation = ("observation", paths.observation)
    numbers = ("numbers", paths.figure(stem, "csv"))
    if stem == "observation":
        return [observation]
    if stem == "trace_frequency":
        return [("traces", paths.root / "traces")]
    if stem == "figure7_loss":
        return [numbers, ("training history", paths.network / "history.csv")]
    posteriors = [("posteriors", paths.root / "posteriors"), ("diagnostics", paths.diagnostics)]
    if stem == "figure8_posteriors":
        return [numbers, *posteriors]
    return [observation, *posteriors] if stem in ("event_display", "predictive_check") else posteriors


def _link(path: Path, output: Path) -> str:
    """Return a path relative to the page, with forward slashes."""
    return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()


def _common_remarks(steps: Sequence[chain.Step]) -> list[str]:
    """Return the remarks that every product has, such as that all were made by a different version of the code."""
    found = [[*step.problems, *step.notes] for step in steps if step.record is not None]
    return [remark for remark in found[0] if all(remark in remarks for remarks in found)] if found else []


def _origins(steps: Sequence[chain.Step], root: Path) -> Iterator[Origin]:
    common = _common_remarks(steps)
    for step in steps:
        if step.record is not None:
            yield Origin(
                Path(os.path.relpath(step.path, root)).as_posix(),
                f"etalumis {' '.join(step.record['command'])}",
                step.record["started"],
                duration(step.record["wall_s"]),
                software.in_words(step.record["code"]),
                [remark for remark in (*step.problems, *step.notes) if remark not in common],
            )


def _stages(paths: Paths) -> Iterator[Stage]:
    for name, seconds in stage_seconds(paths).items():
        longest, total = (duration(number(seconds)) if seconds else "-" for number in (max, sum))
        yield Stage(name, _DONE_BY[name], len(seconds), longest, total)


assert set(_DONE_BY) == set(STAGES), "each stage has its sentence"
