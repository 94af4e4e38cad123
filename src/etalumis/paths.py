# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""All paths of the workflow, relative to the project's root: results/<run>/<stage>/..."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

STAGES = ("simulator", "traces", "sorted", "layers", "network", "posteriors", "diagnostics", "figures")
SPLITS = ("train", "valid", "test")
# splits that are sorted; the test split is read trace by trace
SORTED_SPLITS = ("train", "valid")


class FigureEntry(NamedTuple):
    """How a figure is listed in a report: its part of the story, and what it shows."""

    category: str
    title: str


_OBSERVATION, _SIMULATOR, _NETWORK, _POSTERIORS, _CHAINS = (
    "1. What was observed",
    "2. What the simulator does",
    "3. What the network learned",
    "4. What the engines inferred",
    "5. Can the chains be believed",
)
# all figures by their stems, in the order in which a report tells the story; Snakemake sorts categories by name
FIGURES = {
    "observation": FigureEntry(_OBSERVATION, "The decay in the calorimeter"),
    "event_display": FigureEntry(_OBSERVATION, "Event display: image, true and inferred particles"),
    "trace_frequency": FigureEntry(_SIMULATOR, "Trace types and trace lengths under the prior"),
    "figure7_loss": FigureEntry(_NETWORK, "Training and validation loss (Figure 7)"),
    "figure8_posteriors": FigureEntry(_POSTERIORS, "Posteriors, truth and prior (Figure 8)"),
    "posterior_pairs": FigureEntry(_POSTERIORS, "Pairs of quantities"),
    "predictive_check": FigureEntry(_POSTERIORS, "Predictive check: what the posterior leaves of the observation"),
    "chains_trace": FigureEntry(_CHAINS, "RMH: values along the chains"),
    "chains_rank": FigureEntry(_CHAINS, "RMH: ranks of each chain's draws"),
    "chains_autocorrelation": FigureEntry(_CHAINS, "RMH: autocorrelation"),
    "chains_trace_network_rmh": FigureEntry(_CHAINS, "RMH with network moves: values along the chains"),
    "chains_rank_network_rmh": FigureEntry(_CHAINS, "RMH with network moves: ranks of each chain's draws"),
    "chains_autocorrelation_network_rmh": FigureEntry(_CHAINS, "RMH with network moves: autocorrelation"),
}
FIGURES_WITH_NUMBERS = ("figure7_loss", "figure8_posteriors")
"""Figures of the paper, whose numbers are a CSV file beside them."""
# figures and tables that `make paper-figures` adds to figures 7 and 8, by target, with their stems
PAPER_FIGURES = {
    "figure2": "figure2_architectures",
    "figure3": "figure3_proposals",
    "figure4": "figure4_phases",
    "figure5": "figure5_seeds",
    "figure6": "figure6_scaling",
    "learning_rates": "learning_rates",
    "optimizers": "optimizers",
}
PAPER_TABLES = ("table1_machines", "table2_throughput", "parameters")
STATEMENTS = "statements"
SUMMARY = "summary"


def figures_of(engines: Sequence[str]) -> dict[str, FigureEntry]:
    """Return the figures of a run with these engines: those of the chains of an engine exist only with it."""
    absent = [engine for engine in ("rmh", "network_rmh") if engine not in engines]
    return {stem: entry for stem, entry in FIGURES.items() if _engine_of(stem) not in absent}


def figure_target(stem: str) -> str:
    """Return the name of the rule that stands for a figure: its stem, unless a stage has this name."""
    return "observation_figure" if stem == "observation" else stem


def _engine_of(stem: str) -> str | None:
    """Return the engine whose chains a figure shows."""
    if not stem.startswith("chains_"):
        return None
    return "network_rmh" if stem.endswith("_network_rmh") else "rmh"


# version of the layout and the file formats of results/<run>; runs of other versions are refused
RESULTS_FORMAT = {"format": "etalumis-results", "version": 2}


@dataclass(frozen=True)
class Paths:
    """Paths of the products of one run.

    Parameters
    ----------
    run
        Name of the run (config key ``run.name``).
    results
        Folder of all runs.
    network_from
        Folder of the network that the run uses, if it trains none (config key ``network.from``).

    Notes
    -----
    The methods take numbers, or Snakemake's wildcards in braces (``"{part}"``) for the patterns of rules.
    """

    run: str
    results: Path = Path("results")
    network_from: Path | None = None

    @property
    def root(self) -> Path:
        """Folder of this run."""
        return self.results / self.run

    @property
    def format(self) -> Path:
        """Stamp that names the version of the run's layout and file formats."""
        return self.root / "format.json"

    @property
    def config(self) -> Path:
        """The resolved configuration, with all keys."""
        return self.root / "config.yaml"

    @property
    def simulator(self) -> Path:
        """Folder of the simulator."""
        return self.root / "simulator"

    @property
    def simulator_binary(self) -> Path:
        """The simulator's program."""
        return self.simulator / "bin" / "sherpa_tau"

    @property
    def simulator_build(self) -> Path:
        """What the simulator was built from, with its build id."""
        return self.simulator / "build.json"

    @property
    def simulator_config(self) -> Path:
        """The simulator's own configuration file."""
        return self.simulator / "sherpa_tau.conf"

    def traces(self, split: str, part: int | str) -> Path:
        """Return the traces of one generating job, in the order they were generated."""
        return self.root / "traces" / f"{split}-{_number(part, 3)}.h5"

    def sorted(self, split: str) -> Path:
        """Return the folder of a sorted split."""
        return self.root / "sorted" / split

    def sorted_index(self, split: str) -> Path:
        """Return the list of shards of a sorted split."""
        return self.sorted(split) / "index.json"

    @property
    def verified(self) -> Path:
        """Return the mark that the sorted splits were checked through and through."""
        return self.root / "sorted" / "verified"

    @property
    def layers(self) -> Path:
        """The layer table."""
        return self.root / "layers" / "layers.json"

    @property
    def network(self) -> Path:
        """Folder of the trained network."""
        return self.root / "network" if self.network_from is None else self.network_from

    @property
    def network_manifest(self) -> Path:
        """Description of the network's tensors, which training writes last."""
        return self.network / "manifest.json"

    @property
    def observation(self) -> Path:
        """The observation, with its truth."""
        return self.root / "observation" / "observation.h5"

    def posterior_part(self, engine: str, job: int | str) -> Path:
        """Return the posterior file of one chain (rmh) or job (other engines)."""
        return self.root / "posteriors" / f"{engine}-{_number(job, 2)}.h5"

    def posterior(self, engine: str) -> Path:
        """Return the gathered posterior of one engine."""
        return self.root / "posteriors" / f"{engine}.h5"

    @property
    def inference_table(self) -> Path:
        """Return the results for many observations, one row each."""
        return self.root / "inferences" / "test.csv"

    @property
    def diagnostics(self) -> Path:
        """R-hat, ESS, k-hat, agreement of the engines, verdicts."""
        return self.root / "diagnostics" / "diagnostics.json"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.root / "figures"

    def figure(self, name: str, suffix: str = "png") -> Path:
        """Return one figure; suffixes ``md`` and ``rst`` are its caption with the numbers."""
        return self.figures / f"{name}.{suffix}"

    def summary(self, suffix: str = "md") -> Path:
        """Return the verdicts in words."""
        return self.figures / f"{SUMMARY}.{suffix}"

    def experiment_training(self, name: str) -> Path:
        """Return the description of the network of one training of the experiments."""
        return self.root / "experiments" / "trainings" / name / "manifest.json"

    def paper_figure(self, target: str, suffix: str = "png") -> Path:
        """Return a figure or table of `PAPER_FIGURES`; suffix ``csv``: its numbers, ``md``: its caption."""
        return self.root / "experiments" / f"{PAPER_FIGURES[target]}.{suffix}"

    def paper_table(self, stem: str, suffix: str = "md") -> Path:
        """Return a table of `PAPER_TABLES`, or `STATEMENTS`; suffix ``csv``: its numbers."""
        return self.root / "experiments" / f"{stem}.{suffix}"

    @property
    def report(self) -> Path:
        """The report: the story of the run on one HTML page."""
        return self.root / "report.html"

    @property
    def workflow_report(self) -> Path:
        """Snakemake's report: the jobs, their code and graph, and the figures."""
        return self.root / "workflow.html"

    def log(self, stage: str, name: str) -> Path:
        """Return the log of one job."""
        return self.root / "logs" / stage / f"{name}.log"

    def benchmark(self, stage: str, name: str) -> Path:
        """Return Snakemake's timing of one job."""
        return self.root / "benchmarks" / stage / f"{name}.tsv"


def _number(value: int | str, digits: int) -> str:
    return f"{value:0{digits}d}" if isinstance(value, int) else value
