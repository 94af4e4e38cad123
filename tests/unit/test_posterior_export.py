# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posteriors for other programs: ArviZ, pandas, draws of equal weight, and `etalumis posteriors export`."""

import builtins
import importlib.util
import json

import numpy as np
import pandas
import pytest
import xarray
from synthetic_posteriors import posterior_of, tau_posterior

from etalumis.cli import main
from etalumis.errors import InferenceError
from etalumis.inference import Posterior, export, importance, rmh
from etalumis.log_weights import effective_sample_size
from etalumis.models import examples


@pytest.fixture
def branching():
    """Weighted draws; half of them have a second draw."""
    return importance(examples.model("branching"), {"obs": 6.0}, runs=80, seed=1, entries=["all"])


def address_of(posterior, name):
    return next(entry.address for entry in posterior.entries.addresses if entry.name == name)


def test_chains_in_arviz_have_chains_and_draws():
    posterior = tau_posterior(draws=40)
    tree = posterior.to_arviz()
    momentum = tree["posterior"]["momentum"]
    assert momentum.dims[:2] == ("chain", "draw")
    assert momentum.shape == (2, 20, 3)
    np.testing.assert_array_equal(momentum.values.reshape(40, 3), posterior.values["momentum"])
    assert set(tree["sample_stats"].data_vars) == {"log_weight", "log_likelihood", "log_prior", "trace_type"}
    np.testing.assert_array_equal(tree["constant_data"]["momentum"], posterior.truth["momentum"])
    assert json.loads(tree.attrs["info"]) == posterior.info


def test_weighted_draws_in_arviz_are_samples_with_weights(branching):
    tree = branching.to_arviz()
    assert tree["posterior"]["r"].dims == ("sample",)
    weight = xarray.DataArray(np.exp(tree["sample_stats"]["log_weight"]))
    assert float(tree["posterior"]["r"].weighted(weight).mean()) == pytest.approx(float(branching.mean("r")))
    assert "constant_data" not in tree
    assert address_of(branching, "s") not in tree["posterior"]


def test_entries_in_arviz_say_what_they_stand_for(branching):
    tree = branching.to_arviz(["s"])
    entry = tree["posterior"][address_of(branching, "s")]
    np.testing.assert_array_equal(entry, branching.values["s"])
    assert np.isnan(entry).any()
    assert {key: entry.attrs[key] for key in ("name", "kind", "instance")} == {
        "name": "s", "kind": "Poisson", "instance": 1,
    }  # fmt: skip
    assert entry.attrs["stack"].startswith("[branching+")
    assert address_of(branching, "r") not in tree["posterior"]


def test_chains_of_different_length_are_cut_with_a_warning(caplog):
    posterior = posterior_of({"x": np.arange(5.0)}, chains=1)
    posterior.chain = np.array([0, 0, 0, 1, 1])
    np.testing.assert_array_equal(posterior.to_arviz()["posterior"]["x"], [[0, 1], [3, 4]])
    assert "1 of 5 draws are left out" in caplog.text


def test_names_that_xarray_does_not_allow():
    posterior = posterior_of({"mu/GeV": np.arange(4.0), "draw": np.arange(4.0)})
    assert set(posterior.to_arviz()["posterior"].data_vars) == {"mu%2FGeV", "draw (value)"}
    assert "chain (value)" in posterior_of({"chain": np.arange(4.0)}).to_pandas().columns


def test_a_table_has_a_row_per_draw_and_a_column_per_element(branching):
    posterior = tau_posterior("ic", draws=20, log_weight_sd=1.0)
    table = posterior.to_pandas()
    assert list(table.columns[:6]) == [
        "chain",
        "log_weight",
        "log_likelihood",
        "log_prior",
        "trace_type",
        "momentum[0]",
    ]
    np.testing.assert_array_equal(table["momentum[2]"], posterior.values["momentum"][:, 2])
    np.testing.assert_array_equal(table["log_weight"], posterior.log_weight)
    assert table["trace_type"][0] == "0" * 32
    table = branching.to_pandas(["all"])
    np.testing.assert_array_equal(table[address_of(branching, "s")], branching.values["s"])


def test_entries_that_are_not_kept_are_refused(branching, monkeypatch):
    with pytest.raises(InferenceError, match=r"no kept entry matches 'x\*'.*keeps 2 addresses, such as \[branching"):
        branching.to_pandas(["r", "x*"])
    with pytest.raises(InferenceError, match=r"keeps no entries by address; set .*posteriors.entries"):
        tau_posterior().to_arviz(["all"])
    monkeypatch.setattr(export, "MAX_CELLS", 100)
    with pytest.raises(InferenceError, match=r"2 addresses x 80 draws are too many for columns"):
        branching.to_arviz(["all"])
    assert len(branching.to_pandas(["r"])) == 80


def test_without_pandas_the_message_says_how_to_install_it(branching, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InferenceError, match="pip install pandas"):
        branching.to_pandas()


def test_resampled_draws_have_equal_weight_and_the_same_means(branching):
    assert effective_sample_size(branching.weight) < 80
    found = branching.resample(40_000)
    assert found.log_evidence == pytest.approx(branching.log_evidence)
    assert len(set(found.log_weight)) == 1
    assert float(found.values["r"].mean()) == pytest.approx(float(branching.mean("r")), abs=1e-3)
    np.testing.assert_array_equal(found.entries.column(address_of(branching, "s")), found.values["s"])
    assert found.to_arviz(["s"])["posterior"]["s"].shape == (1, 40_000)
    # systematic: each draw occurs n w times, rounded up or down
    drawn = importance(examples.model("gaussian_unknown_mean"), {"obs0": 8.0, "obs1": 9.0}, runs=30, seed=2)
    values, counts = np.unique(drawn.resample(1000, seed=5).values["mu"], return_counts=True)
    expected = {value: 1000 * weight for value, weight in zip(drawn.values["mu"], drawn.weight, strict=True)}
    assert all(abs(count - expected[value]) < 1 for value, count in zip(values, counts, strict=True))
    assert sum(weight for value, weight in expected.items() if value not in values) < 30


def test_a_chain_is_thinned_evenly_and_few_draws_are_reported(caplog):
    posterior = posterior_of({"x": np.arange(100.0)}, chains=2)
    assert set(np.diff(posterior.resample(20).values["x"])) == {5.0}
    assert not caplog.records
    assert len(posterior.resample(200)) == 200
    assert "200 draws of a posterior with an effective sample size of 100.0" in caplog.text
    with pytest.raises(InferenceError, match="at least 1 draw, found 0"):
        posterior.resample(0)


def test_draws_of_weight_zero_are_never_chosen():
    log_weight = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    posterior = posterior_of({"x": np.arange(5.0)}, engine="ic", chains=1, log_weight=log_weight)
    posterior.chain = np.zeros(5, dtype=np.int64)
    for seed in range(20):
        assert set(posterior.resample(2, seed).values["x"]) == {1.0, 3.0}


@pytest.fixture
def file(tmp_path):
    model = examples.model("branching")
    posterior = rmh(model, {"obs": 6.0}, runs=60, seed=1, init_runs=5, entries=["all"])
    posterior.save(tmp_path / "p.h5")
    return tmp_path / "p.h5"


def exported(file, name, *options):
    output = file.parent / name
    return output, main(["posteriors", "export", "--input", str(file), "--output", str(output), *options])


def test_an_exported_table_has_every_number_exactly(file):
    output, code = exported(file, "p.csv", "--entries", "r", "*Poisson*")
    assert code == 0
    expected = Posterior.load(file).to_pandas(["all"])
    read = pandas.read_csv(output, index_col="draw", dtype={"trace_type": str})
    pandas.testing.assert_frame_equal(read, expected, check_dtype=False, check_exact=True)
    without = pandas.read_csv(exported(file, "no.csv")[0])
    assert not any("Poisson" in name for name in without.columns)


def test_an_exported_netcdf_file_is_read_by_xarray(file):
    output, code = exported(file, "p.nc", "--entries", "all", "--resample", "10")
    assert code == 0
    posterior = Posterior.load(file).resample(10)
    with xarray.open_datatree(output, engine="h5netcdf") as tree:
        np.testing.assert_array_equal(tree["posterior"]["r"], posterior.values["r"][None])
        np.testing.assert_array_equal(tree["posterior"][address_of(posterior, "s")], posterior.values["s"][None])


def test_parquet_is_written_or_the_missing_library_is_named(file, capsys):
    output, code = exported(file, "p.parquet")
    if importlib.util.find_spec("pyarrow") is not None:
        assert code == 0
        assert len(pandas.read_parquet(output)) == 60
    else:
        assert code == 1
        assert "requires pyarrow; install it (pip install pyarrow), or write .csv or .nc" in capsys.readouterr().err
        assert not output.exists()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("p.xlsx", [], "expected a name that ends in .csv, .nc, .parquet"),
        ("p.csv", ["--entries", "px"], "no kept entry matches 'px'"),
        ("p.csv", ["--resample", "0"], "at least 1 draw"),
    ],
)
def test_a_wrong_call_says_what_to_do(file, capsys, name, options, said):
    output, code = exported(file, name, *options)
    assert code == 1
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_a_missing_or_foreign_input_is_named(tmp_path, capsys):
    for content in (None, "x"):
        if content is not None:
            (tmp_path / "p.h5").write_text(content, encoding="utf-8")
        assert exported(tmp_path / "p.h5", "p.csv")[1] == 1
        assert "p.h5" in capsys.readouterr().err
