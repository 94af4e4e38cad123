# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""All paths of the workflow, relative to the project's root: results/<run>/<stage>/..."""

from dataclasses import dataclass
from pathlib import Path

STAGES = ("simulator", "traces", "sorted", "layers", "network", "posteriors", "diagnostics", "figures")
SPLITS = ("train", "valid", "test")
# splits that are sorted; the test split is read trace by trace
SORTED_SPLITS = ("train", "valid")
# stem of each figure and its category in the report
FIGURES = {
    "figure7_loss": "Training",
    "figure8_posteriors": "Posteriors",
    "chains_trace": "Chains",
    "chains_rank": "Chains",
    "chains_autocorrelation": "Chains",
    "trace_frequency": "Traces",
    "observation": "Traces",
}
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
        """Return one figure; suffix ``md`` is its caption with the numbers."""
        return self.figures / f"{name}.{suffix}"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    def log(self, stage: str, name: str) -> Path:
        """Return the log of one job."""
        return self.root / "logs" / stage / f"{name}.log"

    def benchmark(self, stage: str, name: str) -> Path:
        """Return Snakemake's timing of one job."""
        return self.root / "benchmarks" / stage / f"{name}.tsv"


def _number(value: int | str, digits: int) -> str:
    return f"{value:0{digits}d}" if isinstance(value, int) else value
