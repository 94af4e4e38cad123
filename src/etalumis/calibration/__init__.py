# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Simulation-based calibration: whether the posteriors of an engine are right, on average over the prior.

Draw a truth and an observation from the model, infer the posterior of the observation, and find the rank of the truth
in it. If the posterior is right, the ranks are uniform (Talts et al. 2018, arXiv 1804.06788), and a central 50 %
interval contains the truth in 50 % of the cases.

simulation    the truth and the observation of one case
ranks         the rank of the truth in weighted draws or chains, from 0 to 1
usability     whether a posterior can be used at all
cases         what is kept of each case; the file
driver        the loop over the observations, which resumes
coverage, categories, summary     what the ranks say, in numbers and in words
"""

from etalumis.calibration.cases import Case, CategoryRecord
from etalumis.calibration.coverage import Coverage, coverage
from etalumis.calibration.driver import calibrate
from etalumis.calibration.ranks import category_rank, rank_of_truth
from etalumis.calibration.summary import summarise
from etalumis.engines import ENGINES, Engine, EngineInputs

__all__ = [
    "ENGINES",
    "Case",
    "CategoryRecord",
    "Coverage",
    "Engine",
    "EngineInputs",
    "calibrate",
    "category_rank",
    "coverage",
    "rank_of_truth",
    "summarise",
]
