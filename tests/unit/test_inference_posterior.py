# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import errno
import math
import os

import h5py
import numpy as np
import pytest

from etalumis.errors import DatasetError, InferenceError, StorageError
from etalumis.inference import Posterior
from etalumis.inference.draws import Draw

LOG_3 = math.log(3.0)


def draw(trace_type="0" * 32, log_likelihood=-1.0, **values):
    columns = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    return Draw(columns, -2.0, log_likelihood, trace_type)


def posterior(chain=0, engine="ic", log_weight=(0.0, LOG_3), **info):
    draws = [draw(px=1.0, momentum=[1, 2, 3]), draw(px=2.0, momentum=[4, 5, 6], channel=7)]
    return Posterior.from_draws(engine, draws, list(log_weight), chain, info)


def test_columns_hold_nan_where_a_draw_lacks_a_value():
    made = posterior()
    assert made.values["momentum"].shape == (2, 3)
    np.testing.assert_array_equal(made.values["channel"], [np.nan, 7.0])
    assert made.mean("px") == pytest.approx(1.75)
    assert made.mean("channel") == pytest.approx(7.0)
    assert made.log_evidence == pytest.approx(math.log(2.0))


def test_values_of_varying_shape_are_named_and_left_out():
    made = Posterior.from_draws("rmh", [draw(state=[1.0, 2.0]), draw(state=[1.0])], [0.0, 0.0], 0, {})
    assert "state" not in made.values
    assert made.info["left_out_values"] == ["state"]


def test_a_saved_posterior_is_loaded_unchanged(tmp_path):
    made = posterior(seed=3, acceptance={"px": {"proposed": 4}})
    made.truth = {"px": np.asarray(1.5), "odd/name": np.arange(3.0)}
    made.save(tmp_path / "p.h5")
    read = Posterior.load(tmp_path / "p.h5")
    assert (read.engine, read.info) == (made.engine, made.info)
    for name in ("log_weight", "log_likelihood", "log_prior", "chain", "trace_type"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert read.values.keys() == made.values.keys()
    for name, column in made.values.items():
        np.testing.assert_array_equal(read.values[name], column)
    assert {name: value.tolist() for name, value in read.truth.items()} == {"px": 1.5, "odd/name": [0, 1, 2]}


def _alter(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: file.attrs.modify("format", "other"), "expected a posterior file .format 'etalumis-posterior'."),
        (lambda file: file.attrs.modify("version", 99), "version 99"),
        (lambda file: file["values/px"].__setitem__(0, 9.0), "'px' does not match its checksum"),
        (lambda file: file.__delitem__("log_weight"), "log_weight"),
    ],
    ids=["format", "version", "altered", "missing"],
)
def test_foreign_or_altered_files_are_refused(tmp_path, change, expected):
    path = tmp_path / "p.h5"
    posterior().save(path)
    _alter(path, change)
    with pytest.raises(DatasetError, match=expected):
        Posterior.load(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOLCK])
def test_an_operating_system_error_is_not_reported_as_damage(tmp_path, monkeypatch, number):
    path = tmp_path / "p.h5"
    posterior().save(path)

    def refuse(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(StorageError, match=rf"p\.h5: cannot be read \(.*{os.strerror(number)}\).*not damage"):
        Posterior.load(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path, share):
    path = tmp_path / "p.h5"
    posterior().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"p\.h5"):
        Posterior.load(path)


def test_the_error_for_a_missing_file_says_how_to_create_it(tmp_path):
    with pytest.raises(DatasetError, match="etalumis posteriors"):
        Posterior.load(tmp_path / "none.h5")


def test_jobs_are_joined_with_their_weights():
    joined = Posterior.concatenate([posterior(0, runs=2, wall_s=1.0), posterior(1, runs=2, wall_s=2.0)])
    assert len(joined) == 4
    assert joined.chain.tolist() == [0, 0, 1, 1]
    assert (joined.info["runs"], joined.info["wall_s"]) == (4, 3.0)
    assert len(joined.info["parts"]) == 2
    assert joined.mean("px") == pytest.approx(1.75)


def test_a_value_of_another_shape_in_one_part_is_left_out_of_the_whole():
    one = Posterior.from_draws("rmh", [draw(state=[1.0, 2.0], px=1)], [0.0], 0, {})
    two = Posterior.from_draws("rmh", [draw(state=[1.0], px=1)], [0.0], 1, {})
    joined = Posterior.concatenate([one, two])
    assert list(joined.values) == ["px"]
    assert joined.info["left_out_values"] == ["state"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (posterior(0), "not distinct"),
        (posterior(1, engine="rmh"), "engine"),
        (posterior(1, observation_digest="b"), "observation_digest"),
    ],
    ids=["same job", "engine", "observation"],
)
def test_posteriors_that_do_not_belong_together_are_refused(other, expected):
    with pytest.raises(InferenceError, match=expected):
        Posterior.concatenate([posterior(0), other])


def test_weights_that_are_all_zero_are_an_error():
    with pytest.raises(InferenceError, match="all 2 draws"):
        _ = posterior(log_weight=(-math.inf, -math.inf)).weight
    assert posterior(log_weight=(-math.inf, -math.inf)).log_evidence == -math.inf
