# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Memory and run time that jobs request from a batch system."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etalumis import plan
from etalumis.config import Config, from_mapping, load
from etalumis.errors import ConfigError
from etalumis.job_costs import training_s
from etalumis.resource_requests import LONGEST_MIN, SHORTEST_MIN, for_rule, request, site_limit_min

# peak resident memory in MB, and wall time in s, of the jobs of the demo (config/config.yaml) on two cores
MEASURED = {
    "simulator": (480, 21),
    "generate": (224, 14),
    "sort": (310, 4),
    "verify": (106, 2.2),
    "layers": (69, 0.6),
    "network": (1492, 606),
    "rmh": (282, 277),
    "ic": (494, 103),
    "smc": (576, 212),
}
WILDCARDS = {"split": "train", "engine": "rmh"}


def requested(config: Config, rule: str, **keys: Any) -> tuple[int, int]:
    found = request(config, rule, WILDCARDS, **keys)
    return found.memory_mb, found.minutes


@pytest.mark.parametrize("rule", MEASURED)
def test_a_request_covers_what_the_demo_needs_and_is_not_extravagant(checkout: Path, rule: str) -> None:
    """With the memory of Snakemake's two processes, 240 MB each."""
    config = load(checkout / "config" / "config.yaml")
    memory_mb, seconds = MEASURED[rule]
    requested_mb, minutes = requested(config, rule)
    assert 1.1 * (memory_mb + 480) < requested_mb < 2.5 * (memory_mb + 480)
    assert minutes * 60 > 1.3 * seconds
    assert minutes <= max(SHORTEST_MIN, 6 * seconds / 60)


def test_every_rule_that_runs_a_command_requests_by_its_costs(checkout: Path) -> None:
    seen = set()
    for file in sorted((checkout / "workflow" / "rules").glob("*.smk")):
        for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(encoding="utf-8"), re.M | re.S):
            if "    shell:" in body:
                seen.add(name)
                assert f'**request("{name}"' in body, name
                assert requested(load(checkout / "config" / "config.yaml"), name) > (0, 0)
    assert {"simulator", "generate", "network", "network_rmh", "report", "infer"} <= seen


def test_a_plan_adds_up_what_the_stages_take(checkout: Path) -> None:
    config = load(checkout / "config" / "paper.yaml")
    found = {stage.stage: stage for stage in plan.stages(config)}
    # 15 M traces at the measured rate, and those of validation and test
    assert found["traces"].total_seconds == pytest.approx(15_101_000 / 3_700)
    assert found["traces"].jobs == 152
    assert found["network"].cores == 2048 * 16
    assert found["rmh"].total_seconds == pytest.approx(7_680_000 / 2_900)
    lines = plan.table(config, 32)
    hours = [float(line.split()[-2].replace(",", "")) for line in lines[1:]]
    assert hours[-1] == pytest.approx(sum(stage.core_hours for stage in found.values()) / 32, abs=0.05)
    assert float(plan.table(config, 16)[-1].split()[-2].replace(",", "")) == pytest.approx(2 * hours[-1], abs=0.2)


def test_a_training_takes_its_limit_in_traces_or_in_minutes() -> None:
    def seconds(**keys: float) -> float:
        return training_s(from_mapping({"training": {"tasks": 1, **keys}}))

    assert seconds(max_minutes=7) == 420
    assert seconds(max_minutes=1, max_traces=10**9) == 60
    assert seconds(max_traces=2 * 10**6) == pytest.approx(2 * seconds(max_traces=10**6), rel=0.01)


@pytest.mark.parametrize(
    ("rule", "less", "more"),
    [
        ("generate", {"traces": {"train": 10**6}}, {"traces": {"train": 10**8}}),
        ("generate", {"traces": {"train": 10**8, "jobs": 100}}, {"traces": {"train": 10**8, "jobs": 10}}),
        ("sort", {"traces": {"train": 10**7}}, {"traces": {"train": 10**8}}),
        ("sort", {"traces": {"train": 10**8}, "sorted": {"tasks": 64}}, {"traces": {"train": 10**8}}),
        ("verify", {"traces": {"train": 10**7}}, {"traces": {"train": 10**8}}),
        ("network", {"training": {"max_minutes": 10}}, {"training": {"max_minutes": 300}}),
        ("network", {"training": {"batch_size": 8}}, {"training": {"batch_size": 64}}),
        ("network", {"network": {"lstm_hidden": 64}}, {"network": {"lstm_hidden": 2048}}),
        ("rmh", {"posteriors": {"rmh": {"runs": 10**6}}}, {"posteriors": {"rmh": {"runs": 10**8}}}),
        ("network_rmh", {}, {"posteriors": {"network_rmh": {"runs": 10**8}}}),
        ("ic", {"posteriors": {"ic": {"runs": 10**6}}}, {"posteriors": {"ic": {"runs": 10**8}}}),
        ("ic", {"posteriors": {"ic": {"runs": 10**6}}}, {"posteriors": {"ic": {"runs": 10**6, "replays": 100}}}),
        ("ic", {"posteriors": {"ic": {"runs": 10**6}}}, {"posteriors": {"ic": {"runs": 10**6}, "entries": ["all"]}}),
        ("smc", {"posteriors": {"smc": {"conditional_ess": 0.5}}}, {"posteriors": {"smc": {"conditional_ess": 0.99}}}),
        ("smc", {}, {"posteriors": {"smc": {"particles": 10**6}}}),
        ("importance", {}, {"posteriors": {"importance": {"runs": 10**8}}}),
        ("gather", {}, {"posteriors": {"rmh": {"runs": 10**9, "thin": 1}}}),
        ("diagnostics", {}, {"posteriors": {"ic": {"runs": 10**7}}}),
        ("infer", {"observations": {"count": 10}}, {"observations": {"count": 90}}),
        ("infer", {"observations": {"runs": 10**4}}, {"observations": {"runs": 10**6}}),
    ],
)
def test_more_work_requests_more(rule: str, less: dict[str, Any], more: dict[str, Any]) -> None:
    fewer, larger = (requested(from_mapping(given), rule) for given in (less, more))
    assert all(mine <= theirs for mine, theirs in zip(fewer, larger, strict=True))
    assert fewer != larger


def test_all_jobs_of_an_array_request_the_same() -> None:
    config = from_mapping({"traces": {"train": 10**7, "jobs": 2, "valid": 10}})
    train, valid = (request(config, "generate", {"split": split}) for split in ("train", "valid"))
    assert train == valid
    assert train.minutes > SHORTEST_MIN


def test_another_attempt_requests_more_within_the_limit_of_the_site() -> None:
    config = from_mapping({"traces": {"train": 10**7, "jobs": 1}})
    memory_mb, minutes = requested(config, "generate")
    assert minutes == 181  # 4 x 10^7 / 3700 s
    assert requested(config, "generate", attempt=3) == (pytest.approx(3 * memory_mb, abs=300), 3 * minutes)
    assert requested(config, "generate", attempt=3, limit_min=240) == (pytest.approx(3 * memory_mb, abs=300), 240)
    assert requested(from_mapping({"posteriors": {"rmh": {"runs": 10**10}}}), "rmh", attempt=9)[1] <= LONGEST_MIN


@pytest.mark.parametrize(("given", "minutes"), [({"max_minutes": 30.5}, 46), ({"max_traces": 10**6}, 1456)])
def test_a_training_has_its_budget_and_more_or_a_day_and_more(given: dict[str, Any], minutes: int) -> None:
    assert requested(from_mapping({"training": given}), "network")[1] == minutes


def test_the_memory_of_a_rank_is_divided_among_its_cpus() -> None:
    config = from_mapping({})
    resources = for_rule(config, "network", None, memory="mem_mb_per_cpu", cpus=16)
    assert resources.keys() == {"mem_mb_per_cpu", "runtime"}
    memory_mb = request(config, "network", {}).memory_mb
    assert 0 <= 16 * resources["mem_mb_per_cpu"]({}, 1) - memory_mb < 16


def test_the_limit_of_the_site_is_in_its_profile() -> None:
    def workflow(resources: Any) -> Any:
        return SimpleNamespace(resource_settings=SimpleNamespace(default_resources=resources))

    assert site_limit_min(workflow(None)) is None
    assert site_limit_min(workflow({"mem_mb": 1})) is None
    assert site_limit_min(workflow({"longest_min": SimpleNamespace(value=60)})) == 60
    with pytest.raises(ConfigError, match=r"longest_min: expected the longest run time .* found an hour"):
        site_limit_min(workflow({"longest_min": "an hour"}))
