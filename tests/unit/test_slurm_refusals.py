# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The words for jobs that SLURM refused, from the logs that Snakemake writes."""

from pathlib import Path

import pytest

from etalumis.slurm_refusals import explain, explain_files

CALL = (
    "sbatch --parsable --job-name etalumis_0 --output '/a b/%j.log' --export=ALL --comment {comment}  -p short"
    " -t {minutes} {memory} --ntasks={tasks} --cpus-per-task=2 -D /a"
)
SINGLE = """\
Error in rule generate:
    message: SLURM sbatch failed. The error message was '{said}'.
    sbatch call:
        {call} --wrap="python -m snakemake --snakefile 'x y'"
For further error details see the cluster/cloud log
"""
ARRAY = """\
SLURM sbatch failed for array job submission (tasks 1-4). The error message was '{said}'.
    sbatch call:
        {call} --array=1-4 --wrap="python"
"""
TIME = "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)"
NODES = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
MEMORY = "sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job submission failed: ..."
PARTITION = "sbatch: error: invalid partition specified: short"
ACCOUNT = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"

POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


def log(said: str, form: str = SINGLE, memory: str = "--mem 900", tasks: int = 1) -> str:
    call = CALL.format(comment="rule_generate_wildcards_train_000", minutes=240, memory=memory, tasks=tasks)
    return "Building DAG of jobs...\n" + form.format(said=said, call=call)


def site(command: object) -> str:
    return "1:00:00\n" if "%l" in str(command) else "64 CPUs and 180000 MB\n64 CPUs and 180000 MB\n"


@pytest.mark.parametrize("form", [SINGLE, ARRAY])
def test_a_time_limit(form: str) -> None:
    (said,) = explain(log(TIME, form), site)
    assert said.startswith(
        "SLURM refused generate (train_000): it requests 240 minutes, and the partition short allows 1:00:00. "
        "Write this limit in minutes as longest_min in config.yaml of the profile"
    )


@pytest.mark.parametrize("message", [NODES, MEMORY])
def test_a_size(message: str) -> None:
    (said,) = explain(log(message, memory="--mem-per-cpu 250", tasks=2048), site)
    assert (
        "requests 2048 x 2 CPUs, 250 MB per CPU, and the nodes of the partition short have 64 CPUs and 180000 MB."
        in said
    )
    assert "set-resources: {generate: {slurm_partition: NAME}}" in said


@pytest.mark.parametrize(("message", "name"), [(PARTITION, "slurm_partition"), (ACCOUNT, "slurm_account")])
def test_a_name(message: str, name: str) -> None:
    (said,) = explain(log(message), site)
    assert f"Correct {name} in default-resources" in said


JOBS, TIME_OF_JOB, SIZE = "write the limit as jobs", "write the limit in minutes as longest_min", "For the size: "


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("AssocMaxSubmitJobLimit", [JOBS]),
        ("QOSMaxSubmitJobPerUserLimit", [JOBS]),
        ("QOSMaxWallDurationPerJobLimit", [TIME_OF_JOB]),
        ("", [JOBS, TIME_OF_JOB, SIZE]),  # some versions of SLURM name no reason
    ],
)
def test_a_limit_of_the_account_or_qos(reason: str, advice: list[str]) -> None:
    (said,) = explain(log("\n".join(f"sbatch: error: {text}" for text in (reason, POLICY) if text)), site)
    assert "SLURM refused generate (train_000), which requests 240 minutes and 2 CPUs, 900 MB on each node, for" in said
    assert f"{POLICY}. " in said
    assert [text for text in (JOBS, TIME_OF_JOB, SIZE) if text in said] == advice
    assert "the partition short allows" not in said


def test_another_reason_is_given_as_it_is() -> None:
    (said,) = explain(log("sbatch: error: Batch job submission failed: Socket timed out"), site)
    assert "which requests 2 CPUs, 900 MB on each node: sbatch: error: Batch job submission failed: Socket" in said


def test_many_jobs_of_a_rule_are_one_paragraph() -> None:
    assert len(list(explain(log(TIME) + log(TIME) + log(TIME, ARRAY), site))) == 1


def test_a_log_without_refusals_or_without_a_file(tmp_path: Path) -> None:
    assert list(explain("Error in rule generate:\n    message: None\n", site)) == []
    assert list(explain_files([tmp_path / "none.log"])) == []


def test_without_slurm_the_limit_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (said,) = explain(log(TIME))
    assert "and the partition short allows less." in said
