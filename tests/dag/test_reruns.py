# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A changed key or a deleted file reruns the rules that read it and those that depend on them, and no others."""

import os

import pytest
from dag.conftest import DryProject, jobs_of

from etalumis import reruns
from etalumis.cli import main
from etalumis.config import Config, load, read
from etalumis.provenance.chain import changes

AFTER_RMH = {"rmh": 2, "gather": 1, "diagnostics": 1, "figures": 1, "report": 1}
BY_NETWORK = {"network_rmh": 2, "ic": 2, "smc": 2}
AFTER_NETWORK = {"network": 1, **BY_NETWORK, "gather": 3, "diagnostics": 1, "figures": 1, "report": 1}
AFTER_OBSERVATION = {"observation": 1, "rmh": 2, **BY_NETWORK, "gather": 4, "diagnostics": 1, "figures": 1, "report": 1}
AFTER_SORT = {"sort": 2, "verify": 1, "layers": 1, **AFTER_NETWORK}
ALL = {"simulator": 1, "generate": 4, **AFTER_SORT, **AFTER_OBSERVATION}


def test_a_complete_run_reruns_nothing(made: DryProject) -> None:
    assert made.jobs() == {}


CASES = [
    ("figures={format: [png, svg]}", {"figures": 1, "report": 1}),
    ("posteriors={rmh: {thin: 7}}", AFTER_RMH),
    ("posteriors={ic: {runs: 77}}", {"ic": 2, "gather": 1, "diagnostics": 1, "figures": 1, "report": 1}),
    ("posteriors={smc: {particles: 77}}", {"smc": 2, "gather": 1, "diagnostics": 1, "figures": 1, "report": 1}),
    ("posteriors={smc: {in_flight: 77}}", {}),
    (
        "posteriors={network_rmh: {steps: 77}}",
        {"network_rmh": 2, "gather": 1, "diagnostics": 1, "figures": 1, "report": 1},
    ),
    ("posteriors={network_rmh: {in_flight: 77}}", {}),
    (
        "posteriors={entries: [all]}",
        {"rmh": 2, **BY_NETWORK, "gather": 4, "diagnostics": 1, "figures": 1, "report": 1},
    ),
    ("training={learning_rate: 0.00077}", AFTER_NETWORK),
    ("network={lstm_hidden: 77}", AFTER_NETWORK),
    ("observation={seed: 77}", AFTER_OBSERVATION),
    # the network sees the statements that the posterior is conditioned on
    ("observation={name: calorimeter}", {"network": 1, **AFTER_OBSERVATION}),
    ("traces={shard_traces: 77}", AFTER_SORT),
    # test traces are stored whole, so these keys do not change them
    ("traces={observation: noisy, entries: all, tags: [visible_at_rest]}", {"generate": 3, **AFTER_SORT}),
    ("simulator={noise_gev: 0.77}", ALL),
    ("run={seed: 77}", {job: count for job, count in ALL.items() if job != "simulator"}),
    # timeouts, retries and memory limits change no product
    ("simulator={timeout_s: 77, start_timeout_s: 7, retries: 7}", {}),
    ("sorted={memory_mb: 777}", {}),
]


@pytest.mark.parametrize(("given", "jobs"), CASES)
def test_a_changed_key_reruns_its_readers(made: DryProject, given: str, jobs: dict[str, int]) -> None:
    output = made.dry_run("--config", given)
    assert jobs_of(output) == jobs
    # `etalumis why` names the keys that were given, with both values, and no others
    found = reruns.parse(output)
    assert {rerun.rule: rerun.jobs for rerun in found} == jobs
    named = {key: values for rerun in found for key, values in rerun.keys.items()}
    last, now = configurations(made, given)
    read_above, idle = reruns.unnamed(last, now, found)
    assert set(read_above) == ({"figures.format"} if "figures" in given else set())
    old, new = (config.model_dump(mode="json", by_alias=True) for config in (last, now))
    assert {**named, **read_above, **idle} == {key: (mine, theirs) for key, mine, theirs in changes(old, new)}
    assert bool(idle) == (not jobs)


def configurations(project: DryProject, given: str) -> tuple[Config, Config]:
    """Return config/config.yaml, and the same with a section of the command line."""
    path = project.root / "config" / "config.yaml"
    return load(path), read([path], [given])


def test_the_cases_cover_every_section() -> None:
    # two sections belong to other targets, which have tests of their own below
    assert {given.partition("=")[0] for given, _ in CASES} == set(Config.model_fields) - {"observations", "experiments"}


def test_why_says_what_changed_and_what_has_no_effect(
    made: DryProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.root)
    given = ["training={learning_rate: 0.00077}", "sorted={memory_mb: 777}"]
    assert main(["why", "--configfile", "config/config.yaml", "--config", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["network (1 job)", "  training.learning_rate was 0.003, is 0.00077"]
    at = lines.index("ic (2 jobs)")
    assert lines[at + 1] == "  a job above makes one of its inputs"
    assert lines[-2:] == [
        "changed since the last run (results/demo/config.yaml), but no job reruns for it:",
        "  sorted.memory_mb was 2000, is 777",
    ]
    assert main(["why", "none"]) == 1
    assert "snakemake --dry-run failed" in capsys.readouterr().err


def test_other_observations_rerun_neither_traces_nor_training(project: DryProject) -> None:
    project.pretend_complete("all", "infer")
    assert project.jobs("all", "infer") == {}
    assert project.jobs("all", "infer", "--config", "observations={first: 1, count: 2}") == {"infer": 1}
    assert project.jobs("infer", "--config", "posteriors={ic: {replays: 7}}") == {"infer": 1}
    assert project.jobs("all", "--config", "observations={engines: [ic, smc]}") == {}


def test_a_changed_experiment_reruns_its_own_trainings_and_figures(project: DryProject) -> None:
    few = {"lstm_layers": [1], "lstm_hidden": [8], "mixture_components": [2, 3], "seeds": 2, "minibatches": [16]}

    def words(**keys: int) -> list[str]:
        return ["paper_figures", "--config", f"experiments={few | keys}"]

    project.pretend_complete(*words())
    assert project.jobs(*words(seeds=4, network_gb_per_s=7)) == {"experiment_training": 2, "figure5": 1, "figure6": 1}
    assert project.jobs(*words(grid_traces=777)) == {"experiment_training": 2, "figure2": 1}
    assert project.jobs(*words(rate_traces=777)) == {"experiment_training": 4, "learning_rates": 1}
    assert project.jobs(*words(optimizer_traces=777)) == {"experiment_training": 8, "optimizers": 1}
    assert project.jobs(*words(paper_iterations=77)) == {"experiment_training": 1, "experiment_ranks": 1, "tables": 1}


def test_one_more_chain_is_one_more_job(made: DryProject) -> None:
    # `thin` and `runs` are unchanged, so the existing chains are kept
    assert made.jobs("--config", "posteriors={rmh: {chains: 3}}") == {**AFTER_RMH, "rmh": 1}


def test_one_more_job_of_ic_is_one_more_job(made: DryProject) -> None:
    assert made.jobs("--config", "posteriors={ic: {jobs: 3}}") == {
        "ic": 1, "gather": 1, "diagnostics": 1, "figures": 1, "report": 1,
    }  # fmt: skip


def test_forcing_a_rule_reruns_the_rules_that_depend_on_it(made: DryProject) -> None:
    assert made.jobs("--forcerun", "network") == AFTER_NETWORK


def test_a_deleted_product_is_recreated_if_it_is_needed(project: DryProject) -> None:
    project.pretend_complete()
    project.demo.posterior_part("rmh", 1).unlink()
    project.demo.posterior("rmh").unlink()
    # the figures exist, so their inputs are not needed until they are requested by name
    assert project.jobs() == {}
    assert project.jobs("posteriors") == {"rmh": 1, "gather": 1}
    project.demo.figure("figure8_posteriors").unlink()
    assert project.jobs() == {**AFTER_RMH, "rmh": 1}


def test_a_new_source_rebuilds_the_simulator(project: DryProject) -> None:
    project.pretend_complete()
    folder = project.root / "src" / "cpp"
    test = next((folder / "sherpa_tau" / "tests").glob("*.cpp"))
    test.write_text("// not part of the simulator\n", encoding="utf-8")
    assert project.jobs() == {}
    for source in (folder / "sherpa_tau/calorimeter.cpp", folder / "CMakeLists.txt", folder / "cmake/PpxSchema.cmake"):
        before = source.stat()
        with source.open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        # the new build may have the old id, but a dry run cannot know that
        assert project.jobs() == ALL
        os.truncate(source, before.st_size)
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
