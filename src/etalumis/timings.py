# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Wall times by stage, from Snakemake's benchmark files."""

import csv
from pathlib import Path

from etalumis.paths import STAGES, Paths
from etalumis.progress import duration


def stage_seconds(paths: Paths) -> dict[str, list[float]]:
    """Return the wall times of the jobs, in seconds, by stage in the order of the workflow."""
    return {
        stage: [job_seconds(path) for path in sorted((paths.root / "benchmarks" / stage).glob("*.tsv"))]
        for stage in STAGES
    }


def job_seconds(path: Path) -> float:
    """Return the wall time in a benchmark file of Snakemake (column `s`, one row per repeat; the last row counts)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return float(rows[-1]["s"])


def stage_table(paths: Paths) -> str:
    """Return a table of the stages: number of jobs, longest job, total time."""
    lines = [f"{'stage':<12} {'jobs':>5} {'longest':>10} {'sum':>10}"]
    for stage, seconds in stage_seconds(paths).items():
        if seconds:
            lines.append(f"{stage:<12} {len(seconds):>5} {duration(max(seconds)):>10} {duration(sum(seconds)):>10}")
    return "\n".join(lines)
