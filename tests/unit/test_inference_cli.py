# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import pytest

from etalumis.cli import main
from etalumis.inference import Posterior, importance
from etalumis.models import examples


@pytest.fixture
def jobs(tmp_path):
    paths = []
    for job in range(2):
        posterior = importance(examples.model("branching"), {"obs": 6.0}, runs=30, seed=1, job=job)
        paths.append(tmp_path / f"{job}.h5")
        posterior.save(paths[-1])
    return paths


def test_gather_joins_jobs(jobs, tmp_path):
    output = tmp_path / "whole" / "importance.h5"
    assert main(["posteriors", "gather", "--input", *map(str, jobs), "--output", str(output)]) == 0
    assert len(Posterior.load(output)) == 60


def test_gather_refuses_the_same_job_twice(jobs, tmp_path, capsys):
    output = tmp_path / "importance.h5"
    assert main(["posteriors", "gather", "--input", str(jobs[0]), str(jobs[0]), "--output", str(output)]) == 1
    assert "would count twice" in capsys.readouterr().err
    assert not output.exists()


def test_an_altered_part_is_named(jobs, tmp_path, capsys):
    jobs[1].write_bytes(jobs[1].read_bytes()[:500])
    assert main(["posteriors", "gather", "--input", *map(str, jobs), "--output", str(tmp_path / "o.h5")]) == 1
    assert "1.h5" in capsys.readouterr().err


def test_an_observation_file_that_is_none_is_named(jobs, tmp_path, capsys, checkout):
    command = ["posteriors", "rmh", "--config", str(checkout / "config" / "test.yaml"), "--simulator", str(tmp_path)]
    assert main([*command, "--observation", str(jobs[0]), "--chain", "0", "--output", str(tmp_path / "o.h5")]) == 1
    assert "etalumis-observation" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["rmh"], ["ic", "--job", "-1"], ["unknown"]])
def test_a_wrong_call_has_exit_code_2(words):
    with pytest.raises(SystemExit) as stopped:
        main(["posteriors", *words])
    assert stopped.value.code == 2
