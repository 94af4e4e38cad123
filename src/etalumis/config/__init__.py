# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Configurations: closed models, reading with clear errors, and the texts made from the models."""

from etalumis.config.describe import key_table, schema_text, to_yaml
from etalumis.config.experiments import ExperimentsConfig
from etalumis.config.load import DEFAULT_FILE, from_mapping, load, read
from etalumis.config.models import (
    CalorimeterConfig,
    Config,
    FiguresConfig,
    MomentumConfig,
    NetworkConfig,
    ObservationConfig,
    ObservationsConfig,
    RunConfig,
    SimulatorConfig,
    SortedConfig,
    TracesConfig,
    TrainingConfig,
)
from etalumis.config.posteriors import (
    IcConfig,
    ImportanceConfig,
    NetworkRmhConfig,
    PosteriorsConfig,
    RmhConfig,
    SmcConfig,
)
from etalumis.config.whole import configuration_notes

__all__ = [
    "DEFAULT_FILE",
    "CalorimeterConfig",
    "Config",
    "ExperimentsConfig",
    "FiguresConfig",
    "IcConfig",
    "ImportanceConfig",
    "MomentumConfig",
    "NetworkConfig",
    "NetworkRmhConfig",
    "ObservationConfig",
    "ObservationsConfig",
    "PosteriorsConfig",
    "RmhConfig",
    "RunConfig",
    "SimulatorConfig",
    "SmcConfig",
    "SortedConfig",
    "TracesConfig",
    "TrainingConfig",
    "configuration_notes",
    "from_mapping",
    "key_table",
    "load",
    "read",
    "schema_text",
    "to_yaml",
]
