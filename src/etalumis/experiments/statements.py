# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the paper says in words about speed, beside what this machine measures (SC'19, sections 4.4.3, 4.4.4, 6.4)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from etalumis.diagnostics.headline import own_checks
from etalumis.diagnostics.verdict import ENGINE_NAMES
from etalumis.experiments.machine import Machine
from etalumis.experiments.sub_minibatches import SEED, SubMinibatchRates
from etalumis.experiments.tables import markdown_table
from etalumis.figures.numbers import Rows
from etalumis.training.phases import Phases

TITLE = "Statements of the paper about speed"


def table(
    sub_minibatches: SubMinibatchRates,
    sums: Mapping[str, float],
    ranks: int,
    phases: Phases | None,
    diagnostics: Mapping[str, Any],
    machine: Machine,
) -> tuple[str, Rows]:
    """Return the statements and the measurements, in Markdown and as rows.

    Parameters
    ----------
    sub_minibatches
        Rates with and without sub-minibatches.
    sums
        Seconds of the ways to sum gradients, from `gradient_sums.time_sums`.
    ranks
        Number of ranks that summed them.
    phases
        Phases of the training of the run; None if the network has no record of them.
    diagnostics
        Diagnostics of the run.
    machine
        The machine of the measurements.
    """
    rates = sub_minibatches
    rows: list[dict[str, object]] = [
        {
            "section": "4.4.3",
            "paper": "sorting, which avoids sub-minibatches, makes training up to 50 times as fast",
            "here": f"minibatches of one type over sub-minibatches of {rates.types:.0f} types: "
            f"{rates.one_type / rates.by_type:.1f} times as fast",
            "value": rates.one_type / rates.by_type,
        },
        {
            "section": "4.4.3",
            "paper": "unsorted minibatches need sub-minibatches",
            "here": "unsorted minibatches in one pass over sub-minibatches: "
            f"{rates.together / rates.by_type:.1f} times as fast",
            "value": rates.together / rates.by_type,
        },
        _reading(phases),
        {
            "section": "4.4.4",
            "paper": "summing only the gradients that exist is 4 times as fast as summing all",
            "here": f"touched rows over whole tables, {ranks} ranks: "
            f"{sums['sync_all_tables_over_fused']:.1f} times as fast",
            "value": sums["sync_all_tables_over_fused"],
        },
        {
            "section": "4.4.4",
            "paper": "joining tensors in a buffer saves another 4 % of the run time on one node",
            "here": f"one buffer over a call for each tensor, {ranks} ranks: "
            f"{sums['sync_per_tensor_over_fused']:.1f} times as fast",
            "value": sums["sync_per_tensor_over_fused"],
        },
        _engines(diagnostics),
    ]
    shown = [(row["section"], row["paper"], row["here"]) for row in rows]
    text = (
        f"{markdown_table(('section', 'the paper', 'here'), shown)}\n\n"
        "Minibatches in memory, forward and backward passes on one core, medians; sums of the gradients of one "
        f"minibatch per rank, medians; both with seed {SEED} for the choice of the traces. IC and RMH: effective draws "
        f"per core-second, without the training. {machine.sentence}"
    )
    return text, rows


def _reading(phases: Phases | None) -> dict[str, object]:
    """Return the row of the time that the training waited for data."""
    paper = "I/O takes less than 5 % of the run time, before its optimization more than 50 %"
    if phases is None:
        return {"section": "4.4.3", "paper": paper, "here": "this network has no record of it", "value": math.nan}
    seconds = {name: float(np.nansum(each)) for name, each in phases.seconds.items()}
    share = seconds["read"] / sum(seconds.values())
    here = f"waiting for data: {100 * share:.1f} % of the training of this run"
    return {"section": "4.4.3", "paper": paper, "here": here, "value": share}


def _engines(diagnostics: Mapping[str, Any]) -> dict[str, object]:
    """Return the row of IC and RMH; without both, it says so."""
    engines = diagnostics["engines"]
    paper = "inference with IC is 230 times as fast as with RMH (30 minutes, 115 hours)"
    if not {"ic", "rmh"} <= set(engines):
        return {"section": "6.4", "paper": paper, "here": "this run does not have both engines", "value": math.nan}
    rates = {name: engines[name]["cost"]["ess_per_core_s"] for name in ("ic", "rmh")}
    seeds = sorted({engines[name]["info"]["seed"] for name in rates})
    ratio = rates["ic"] / rates["rmh"] if rates["rmh"] else math.nan
    here = (
        f"IC {rates['ic']:.2g}, RMH {rates['rmh']:.2g} effective draws per core-second: "
        f"{ratio:.0f} times as many (smallest of all quantities; seed "
        f"{', '.join(map(str, seeds))})"
    )
    passed = own_checks(diagnostics)
    doubtful = [ENGINE_NAMES[name] for name in rates if not passed[name]]
    if doubtful:
        here += f"; not to be relied on, since {' and '.join(doubtful)} did not pass the checks of the diagnostics"
    return {"section": "6.4", "paper": paper, "here": here, "value": ratio}
