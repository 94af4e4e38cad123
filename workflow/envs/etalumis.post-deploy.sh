#!/bin/sh
# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
# Snakemake calls this in the new environment, from the root of the checkout: it has everything but etalumis.
set -e
python -m pip install --no-deps --no-build-isolation -e .
