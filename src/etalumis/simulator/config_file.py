# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The configuration file of sherpa_tau: lines ``key value...``, which C++ reads without a YAML library."""

from pathlib import Path

from etalumis.config import SimulatorConfig
from etalumis.files import write_text_atomic

RUN_CARD = "tau.yaml"
SITES = "tau_sites.txt"


def simulator_config_text(config: SimulatorConfig, run_card: str, sites: str) -> str:
    """Return the text of the file; equal configurations give equal bytes.

    Parameters
    ----------
    config
        Momentum ranges and noise in GeV, and the calorimeter, whose keys have the prefix ``calorimeter_``.
    run_card, sites
        Paths of Sherpa's run card and of the site table, absolute or relative to the folder of the file.
    """
    momentum = config.momentum_gev
    rows: list[tuple[str, tuple[float, ...] | str]] = [
        ("run_card", run_card),
        ("sites", sites),
        ("px_gev", momentum.px),
        ("py_gev", momentum.py),
        ("pz_gev", momentum.pz),
        ("noise_gev", (config.noise_gev,)),
    ]
    rows += [(f"calorimeter_{key}", (value,)) for key, value in config.calorimeter.model_dump().items()]
    lines = ["# Written by `etalumis simulator config` from the section `simulator` of the configuration."]
    for key, value in rows:
        # repr gives the shortest text that reads back as the same number
        words = value if isinstance(value, str) else " ".join(repr(float(number)) for number in value)
        lines.append(f"{key} {words}")
    return "\n".join(lines) + "\n"


def write_simulator_config(config: SimulatorConfig, path: Path) -> None:
    """Write the file, in the folder where `build_simulator` put the run card and the site table."""
    write_text_atomic(path, simulator_config_text(config, RUN_CARD, SITES))
