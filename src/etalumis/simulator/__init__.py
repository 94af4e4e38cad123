# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Sherpa simulator: fetch it, build sherpa_tau against it, write its configuration; couple others."""

from etalumis.simulator.build import build_simulator
from etalumis.simulator.config_file import simulator_config_text, write_simulator_config
from etalumis.simulator.fetch import fetch_sherpa

__all__ = ["build_simulator", "fetch_sherpa", "simulator_config_text", "write_simulator_config"]
