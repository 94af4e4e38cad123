# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The checked configuration, the paths, and the programs of this environment."""

import math

from etalumis import workflow as wiring
from etalumis.config import from_mapping
from etalumis.paths import ENGINES, FIGURES, SORTED_SPLITS, SPLITS, Paths
from etalumis.results import check_format, write_run_files

CONFIG = from_mapping(config)
P = Paths(CONFIG.run.name)
check_format(P)
wiring.put_environment_first()
