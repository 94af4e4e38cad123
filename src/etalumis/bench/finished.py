# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figures of a finished run: the posteriors of its diagnostics, and the table of many observations.

Effective sample sizes need more runs than a bench has time for, so they are read rather than measured again.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from etalumis.errors import DatasetError


def of_diagnostics(diagnostics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the engines and of the network in a diagnostics.json.

    Returns
    -------
    dict
        For each engine E: ``E_ess`` (the smallest of all quantities for chains), ``E_ess_per_core_s``, and ``E_rhat``
        (the largest of all quantities) or ``E_khat``; ``train_valid_loss`` and ``train_prior_loss`` in nats.
    """
    found: dict[str, float] = {}
    for engine, report in diagnostics["engines"].items():
        found[f"{engine}_ess"] = report["cost"]["ess"]
        found[f"{engine}_ess_per_core_s"] = report["cost"]["ess_per_core_s"]
        if report["markov"]:
            rhats = [summary["rhat"] for summary in report["quantities"].values()]
            found[f"{engine}_rhat"] = max((rhat for rhat in rhats if not math.isnan(rhat)), default=math.nan)
        else:
            found[f"{engine}_khat"] = report["weights"]["khat"]
    if training := diagnostics.get("training"):
        found["train_valid_loss"], found["train_prior_loss"] = training["valid_loss"], training["prior_loss"]
    return found


def of_table(path: Path, khat: float = 0.7) -> dict[str, float]:
    """Return the figures of the observations in the .jsonl file of `etalumis infer`.

    Parameters
    ----------
    path
        The file.
    khat
        Largest k-hat that is reliable.

    Returns
    -------
    dict
        ``heldout_observations``; ``heldout_median_efficiency``, of ESS over runs, and ``heldout_khat_ok_share`` of the
        first engine; ``heldout_repaired_share``, of observations with such a k-hat of the engine that gave the result;
        and ``heldout_reliable_share``, of those whose effective sample size is large enough, too.

    Raises
    ------
    DatasetError
        If the file cannot be read, or has no observation with a result.
    """
    try:
        with path.open(encoding="utf-8") as file:
            records = [record for line in file if "attempts" in (record := json.loads(line))]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a table of `etalumis infer` ({error}); name its .jsonl file") from None
    first = [record["attempts"][0] for record in records if "ess" in record["attempts"][0]]
    if not first:
        raise DatasetError(f"{path}: no observation with a result; expected the .jsonl file of `etalumis infer`")
    return {
        "heldout_observations": float(len(records)),
        "heldout_median_efficiency": median(attempt["ess"] / attempt["runs"] for attempt in first),
        "heldout_khat_ok_share": sum(_at_most(attempt["khat"], khat) for attempt in first) / len(records),
        "heldout_repaired_share": sum(_at_most(record["khat"], khat) for record in records) / len(records),
        "heldout_reliable_share": sum(record["status"] == "reliable" for record in records) / len(records),
    }


def _at_most(value: Any, limit: float) -> bool:
    return isinstance(value, int | float) and value <= limit
