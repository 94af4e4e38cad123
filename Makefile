# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
# `make` alone lists the targets. Each of them sets up what it needs.
PYTHON ?= python3
VENV := .venv/bin
export PATH := $(CURDIR)/$(VENV):$(PATH)
ifdef CONDA_PREFIX
# headers and libraries of an active conda environment
export CMAKE_PREFIX_PATH := $(CONDA_PREFIX):$(CMAKE_PREFIX_PATH)
endif
# Python stores the bytecode that it compiles: the tests start hundreds of processes
unexport PYTHONDONTWRITEBYTECODE
# one worker per core; the tests of a file stay on one worker (tests/lanes.py)
PYTEST = $(VENV)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadscope --no-loadscope-reorder
CPP_SOURCES = $(shell find src/cpp -name '*.cpp' -o -name '*.hpp')

.PHONY: help setup demo paper-figures report docs recover check check-tests test test-slurm validate soak lint format clean

help: ## list the targets
	@echo "etalumis: which latent choices of a simulator produced this observation?"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo
	@echo "By hand, once set up: source .venv/bin/activate; etalumis --help; snakemake --cores all"

setup: ## set up this checkout: system packages, .venv (the other targets call it)
	@$(PYTHON) scripts/setup.py

demo: setup ## all stages on real Sherpa, on this machine, to a report; after an interruption it resumes
	@$(VENV)/python scripts/run_workflow.py $(ARGS)

paper-figures: setup ## figures and tables of the paper, after the demo (about an hour); ARGS="--configfile FILE"
	@$(VENV)/python scripts/run_workflow.py --no-report $(ARGS) paper_figures

report: setup ## write the HTML reports of a finished run again; ARGS="--configfile FILE"
	@$(VENV)/python scripts/run_workflow.py --report-only $(ARGS)

docs: setup ## this documentation as a site, with command line and Python reference: build/docs/index.html
	@$(VENV)/sphinx-build --fail-on-warning --keep-going --quiet -c docs/site . build/docs
	@echo "build/docs/index.html"

recover: setup ## on SLURM, after Snakemake was killed: wait for its jobs and go on; ARGS="--configfile FILE --cancel"
	@$(VENV)/python scripts/recover.py --profile slurm $(ARGS)

check: ## while you work: lint, and the tests that need neither Sherpa nor a workflow nor statistics
	@$(MAKE) --no-print-directory --jobs 2 --keep-going lint check-tests

check-tests: setup
	$(PYTEST) --lane check

test: lint ## lint and every test, statistics with small samples
	$(PYTEST) --lane test

test-slurm: setup ## the workflow on a real SLURM, which is started on this machine for the tests
	$(PYTEST) --lane slurm tests/slurm

validate: setup ## statistics with large samples, property tests with many examples
	$(PYTEST) --lane validate

soak: setup ## 10,000 runs of each kind while the simulator is killed at random: no trace is lost, duplicated or altered
	ETALUMIS_SOAK_RUNS=$(or $(RUNS),10000) $(VENV)/python -m pytest -v tests/soak

lint: setup ## ruff, mypy, snakefmt, clang-format, codespell, snakemake --lint
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/snakefmt --check workflow
	$(VENV)/clang-format --dry-run --Werror $(CPP_SOURCES)
	$(VENV)/codespell . .ci
	$(VENV)/snakemake --lint

format: setup ## format the sources as lint requires
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
	$(VENV)/snakefmt workflow
	$(VENV)/clang-format -i $(CPP_SOURCES)

clean: ## delete results, build products and caches (not .venv)
	find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	rm -rf build .cache .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis
