# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a changed key or a lost file reruns: its readers and what follows, nothing else."""

import os

import pytest
from dag.conftest import DryProject

AFTER_RMH = {"rmh": 2, "gather": 1, "diagnostics": 1, "figures": 1}
AFTER_NETWORK = {"network": 1, "ic": 2, "gather": 1, "diagnostics": 1, "figures": 1}
AFTER_OBSERVATION = {"observation": 1, "rmh": 2, "ic": 2, "gather": 2, "diagnostics": 1, "figures": 1}
AFTER_SORT = {"sort": 2, "verify": 1, "layers": 1, **AFTER_NETWORK}
ALL = {"simulator": 1, "generate": 4, **AFTER_SORT, **AFTER_OBSERVATION}


def test_what_is_made_is_not_made_again(made: DryProject) -> None:
    assert made.jobs() == {}


@pytest.mark.parametrize(
    ("given", "jobs"),
    [
        ("figures={format: [png, svg]}", {"figures": 1}),
        ("posteriors={rmh: {thin: 7}}", AFTER_RMH),
        ("posteriors={ic: {runs: 77}}", {"ic": 2, "gather": 1, "diagnostics": 1, "figures": 1}),
        ("training={learning_rate: 0.00077}", AFTER_NETWORK),
        ("network={lstm_hidden: 77}", AFTER_NETWORK),
        ("observation={seed: 77}", AFTER_OBSERVATION),
        ("traces={shard_traces: 77}", AFTER_SORT),
        # of test traces everything is kept, for the observation is one of them
        ("traces={observation: noisy, entries: all, tags: [momentum]}", {"generate": 3, **AFTER_SORT}),
        ("simulator={noise_gev: 0.77}", ALL),
        ("run={seed: 77}", {job: count for job, count in ALL.items() if job != "simulator"}),
        # how long to wait for the simulator, how often to try and in how much memory to sort change no product
        ("simulator={timeout_s: 77, start_timeout_s: 7, retries: 7}", {}),
        ("sorted={memory_mb: 777}", {}),
    ],
)
def test_a_changed_key_reruns_its_readers(made: DryProject, given: str, jobs: dict[str, int]) -> None:
    assert made.jobs("--config", given) == jobs


def test_one_chain_more_is_one_job_more(made: DryProject) -> None:
    # `thin` and `runs` stay, so the chains that are there stay too
    assert made.jobs("--config", "posteriors={rmh: {chains: 3}}") == {**AFTER_RMH, "rmh": 1}


def test_one_job_more_is_one_job_more(made: DryProject) -> None:
    assert made.jobs("--config", "posteriors={ic: {jobs: 3}}") == {
        "ic": 1, "gather": 1, "diagnostics": 1, "figures": 1,
    }  # fmt: skip


def test_forcing_one_rule_reruns_what_follows(made: DryProject) -> None:
    assert made.jobs("--forcerun", "network") == AFTER_NETWORK


def test_a_lost_product_is_made_again_with_what_follows(project: DryProject) -> None:
    project.pretend_all_is_made()
    project.demo.posterior_part("rmh", 1).unlink()
    project.demo.posterior("rmh").unlink()
    # the figures are there, so nothing asks for what they were drawn from, until it is asked for by name
    assert project.jobs() == {}
    assert project.jobs("posteriors") == {"rmh": 1, "gather": 1}
    project.demo.figure("figure8_posteriors").unlink()
    assert project.jobs() == {**AFTER_RMH, "rmh": 1}


def test_a_new_source_rebuilds_the_simulator(project: DryProject) -> None:
    project.pretend_all_is_made()
    folder = project.root / "src" / "cpp"
    test = next((folder / "sherpa_tau" / "tests").glob("*.cpp"))
    test.write_text("// no part of the simulator\n", encoding="utf-8")
    assert project.jobs() == {}
    for source in (folder / "sherpa_tau/calorimeter.cpp", folder / "CMakeLists.txt", folder / "cmake/PpxSchema.cmake"):
        before = source.stat()
        with source.open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        # a dry run cannot know that the new build may have the old id, so it names all that depends on it
        assert project.jobs() == ALL
        os.truncate(source, before.st_size)
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
