# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Configuration, paths and environment."""

from functools import partial

from snakemake.logging import logger

from etalumis import resource_requests, slurm_refusals
from etalumis import workflow as wiring
from etalumis.config import configuration_notes
from etalumis.paths import (
    FIGURES_WITH_NUMBERS,
    PAPER_FIGURES,
    PAPER_TABLES,
    SORTED_SPLITS,
    SPLITS,
    STATEMENTS,
    figure_target,
    figures_of,
)
from etalumis.results import check_format, write_run_files

CONFIG = wiring.read_config(workflow)
# for the texts of the report
config.clear()
config.update(CONFIG.model_dump(mode="json"))
for line in configuration_notes(CONFIG):
    logger.warning(line)
P = wiring.paths_of(CONFIG)
ENGINES = CONFIG.posteriors.engines
FIGURES = figures_of(ENGINES)
check_format(P)
wiring.put_environment_first()
# longer jobs first, of those that can start
priority_of = partial(resource_requests.priority, CONFIG)
# memory and run time of the jobs of a rule, for a batch system
request = partial(resource_requests.for_rule, CONFIG, limit_min=resource_requests.site_limit_min(workflow))
