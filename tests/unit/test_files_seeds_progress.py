# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Atomic files, derived seeds, progress lines."""

import logging

import numpy as np
import pytest

from etalumis import files, seeds
from etalumis.progress import Progress, duration


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "product.txt"
    files.write_text_atomic(target, "old")

    def fail_half_way():
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["product.txt"]


def test_json_refuses_what_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json_atomic(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_digests_do_not_depend_on_key_order_but_on_values():
    assert files.digest({"a": 1, "b": [2, 3]}) == files.digest({"b": [2, 3], "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})


def test_seeds_are_fixed_distinct_and_give_uncorrelated_streams():
    assert seeds.derive(1, "traces", 0) == seeds.derive(1, "traces", 0)
    derived = {seeds.derive(run, stage, i) for run in (1, 11) for stage in ("traces", "traces/1") for i in range(1000)}
    assert len(derived) == 4000
    draws = np.array([seeds.generator(1, "rmh", i).random(2000) for i in range(2)])
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / np.sqrt(2000)


def test_progress_says_share_rate_and_time_left(caplog):
    caplog.set_level(logging.INFO)
    with Progress(1000, "traces", "traces train-000", interval_s=0.0) as progress:
        progress.update(250, failed=1)
    first, last = (record.message for record in caplog.records)
    assert first.startswith("traces train-000  250/1,000 traces   25%")
    assert "traces/s  left " in first
    assert first.endswith("failed=1")
    assert "250 traces in" in last


def test_durations_are_written_for_people():
    assert [duration(s) for s in (8.24, 113, 7500)] == ["8.2 s", "1 m 53 s", "2 h 05 m"]
