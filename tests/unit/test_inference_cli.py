# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis posteriors`: its observations, and the files that it writes and overwrites."""

import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from served import SERVE
from synthetic_batches import PRIORS, SMALL, layer_table

from etalumis.cli import main
from etalumis.errors import StorageError
from etalumis.inference import Posterior, importance
from etalumis.models import examples
from etalumis.network import ProposalNetwork, checkpoint

MODEL = """\
from etalumis.distributions import Normal, Uniform
from etalumis.models import observe, sample

def pair():
    x = sample(Normal(0.0, 1.0), name="x")
    observe(Normal(x, 1.0), name="left")
    observe(Uniform(x, x + 4.0), name="right")
"""


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


def test_a_file_of_another_format_is_no_observation(jobs, tmp_path, capsys, checkout):
    command = ["posteriors", "rmh", "--config", str(checkout / "config" / "test.yaml"), "--simulator", str(tmp_path)]
    assert main([*command, "--observation", str(jobs[0]), "--chain", "0", "--output", str(tmp_path / "o.h5")]) == 1
    assert "etalumis-observation" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["rmh"], ["ic", "--job", "-1"], ["unknown"]])
def test_a_wrong_call_has_exit_code_2(words):
    with pytest.raises(SystemExit) as stopped:
        main(["posteriors", *words])
    assert stopped.value.code == 2


def test_several_observation_files_condition_one_posterior(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pair.py").write_text(MODEL, encoding="utf-8")
    Path("config.yaml").write_text("run: {seed: 3}\n", encoding="utf-8")
    assert main(["simulator", "couple", "--output", "coupled", "--", *SERVE, "pair:pair", "{endpoint}"]) == 0
    files = (
        ("left", 1.0, "left.h5"),
        ("right", 3.0, "right.h5"),
        ("right", 99.0, "distant.h5"),
        ("left", 1e200, "huge.h5"),
    )
    for name, value, file in files:
        np.save("data.npy", np.asarray(value))
        assert main(["traces", "observation", "--measured", "data.npy", "--name", name, "--output", file]) == 0

    def sampled(*observations, force="--force"):
        output = ["--runs", "40", "--output", "p.h5", *force.split()]
        call = ["posteriors", "importance", "--config", "config.yaml", "--simulator", "coupled", *output]
        code = main([*call, *observations])
        return code, capsys.readouterr().err

    code, said = sampled("--observation", "huge.h5", "right.h5")
    assert code == 1
    assert "observation 'left': expected magnitudes up to 1e+150" in said
    code, said = sampled("--observation", "left.h5")
    assert code == 1
    assert "also observes 'right'" in said
    assert "--unconditioned right" in said
    code, said = sampled("--observation", "left.h5", "--unconditioned", "right")
    assert code == 0
    assert "conditioned on 'left' () but not on 'right'" in said
    alone = Posterior.load(Path("p.h5"))
    code, said = sampled("--observation", "left.h5", "right.h5")
    assert code == 0
    assert "conditioned on 'left' (), 'right' ()" in said
    both = Posterior.load(Path("p.h5"))
    assert f"effective sample size {1 / (both.weight**2).sum():.1f} of 40 draws, " in said
    x = both.values["x"]
    np.testing.assert_array_equal(alone.values["x"], x)
    inside = (x > -1.0) & (x < 3.0)
    np.testing.assert_allclose(both.log_weight, np.where(inside, alone.log_weight - np.log(4.0), -np.inf))
    assert both.info["observation_digest"] != alone.info["observation_digest"]
    code, said = sampled("--observation", "left.h5", "--unconditioned", "right", force="")
    assert code == 1
    assert "p.h5 already exists and is a posterior from another observation; name another output" in said
    code, said = sampled("--observation", "left.h5", "right.h5", force="")
    assert code == 0  # the same posterior
    code, said = sampled("--observation", "left.h5", "--observation", "left.h5", "--unconditioned", "left", "right")
    assert code == 1
    assert "no observation is left" in said
    code, said = sampled("--observation", "left.h5", "distant.h5")
    assert code == 0
    assert "all 40 draws have weight zero" in said


def chain(config, output, *more):
    """Call `posteriors rmh` so that it stops at its missing inputs, once its output has been checked."""
    missing = ["--simulator", "no/simulator", "--observation", "no/observation.h5"]
    return main(["posteriors", "rmh", "--config", str(config), *missing, "--output", str(output), *more])


@pytest.mark.parametrize(
    ("made", "number", "message"),
    [
        ("ic", 0, "is a posterior of engine 'ic', not 'rmh'"),
        ("rmh", 2, "is a posterior of chain 2, not 0"),
        ("seed", 0, "is a posterior of seed 5, not 1"),
        ("text", 0, "is not a file of format 'etalumis-posterior'"),
        ("layers", 0, "is a finished 'etalumis-layers' file"),
        ("cut", 0, "cannot be read"),
    ],
)
def test_another_finished_product_is_not_overwritten_without_force(jobs, checkout, capsys, made, number, message):
    output, config = jobs[0], checkout / "config" / "test.yaml"
    match made:
        case "text":
            output.write_text("my notes", encoding="utf-8")
        case "layers":
            output.write_text('{"format": "etalumis-layers"}', encoding="utf-8")
        case "cut":
            output.write_bytes(output.read_bytes()[:-20])
        case _:
            posterior = Posterior.load(output)
            posterior.engine = "rmh" if made == "seed" else made
            posterior.info["seed"] = 5 if made == "seed" else 1
            posterior.chain[:] = number
            posterior.save(output)
    before = output.read_bytes()
    assert chain(config, output, "--chain", "0") == 1
    said = capsys.readouterr().err
    assert message in said
    assert "--force" in said
    assert chain(config, output, "--chain", "0", "--force") == 1
    assert "no/observation.h5" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_the_same_chain_may_be_run_again_and_a_gathered_file_may_grow(jobs, tmp_path, checkout, capsys):
    whole = str(tmp_path / "whole.h5")
    assert main(["posteriors", "gather", "--input", str(jobs[0]), "--output", whole]) == 0
    assert main(["posteriors", "gather", "--input", *map(str, jobs), "--output", whole]) == 0
    assert main(["posteriors", "gather", "--input", str(jobs[0]), "--output", whole]) == 1
    assert "is a posterior of job 0, 1, not 0; name another output" in capsys.readouterr().err
    assert main(["posteriors", "gather", "--input", *map(str, jobs), "--output", str(jobs[0])]) == 1
    assert "is also an input" in capsys.readouterr().err
    posterior = Posterior.load(jobs[0])
    posterior.engine = "rmh"
    posterior.save(jobs[0])
    assert chain(checkout / "config" / "test.yaml", jobs[0], "--chain", "0") == 1
    assert "no/observation.h5" in capsys.readouterr().err


def below_a_file(folder):
    (folder / "file").write_text("", encoding="utf-8")
    return folder / "file" / "below" / "o.h5"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda folder: folder, "is a folder; expected the name of a file"),
        (below_a_file, "cannot be written"),
        (lambda folder: Path("/dev/full"), "is not a regular file"),
        (lambda folder: Path("/proc/o.h5"), "cannot be written"),
    ],
    ids=["folder", "below a file", "device", "no permission"],
)
@pytest.mark.parametrize("verb", ["rmh", "gather", "layers", "diagnostics"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(verb, place, message, checkout, tmp_path, capsys):
    output = str(place(tmp_path))
    config = checkout / "config" / "test.yaml"
    code = {
        "rmh": lambda: chain(config, output, "--chain", "0"),
        "gather": lambda: main(["posteriors", "gather", "--input", "no/file.h5", "--output", output]),
        "layers": lambda: main(["layers", "--input", "no/file.h5", "--output", output]),
        "diagnostics": lambda: main(["diagnostics", "--posteriors", "no/file.h5", "--output", output]),
    }[verb]()
    said = capsys.readouterr().err
    assert code == 1
    assert f"{output}: {message}" in said
    assert len(said.splitlines()) == 1


@contextmanager
def full_disk(free_bytes):
    """Let files grow to `free_bytes` at most."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_message_and_leaves_nothing(jobs, tmp_path):
    posterior = Posterior.load(jobs[0])
    before = jobs[0].read_bytes()
    for free_bytes in (0, 3000, len(before) - 1):
        with full_disk(free_bytes), pytest.raises(StorageError, match=r"0\.h5: cannot be written \(File too large\)"):
            posterior.save(jobs[0])
        assert jobs[0].read_bytes() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.h5", "1.h5"]


def test_the_network_of_another_run_is_checked_and_its_key_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pair.py").write_text(MODEL, encoding="utf-8")
    Path("config.yaml").write_text("network: {from: other/network}\n", encoding="utf-8")
    Path("plain.yaml").write_text("run: {seed: 3}\n", encoding="utf-8")
    assert main(["simulator", "couple", "--output", "coupled", "--", *SERVE, "pair:pair", "{endpoint}"]) == 0
    np.save("data.npy", np.asarray(1.0))
    assert main(["traces", "observation", "--measured", "data.npy", "--name", "left", "--output", "left.h5"]) == 0
    capsys.readouterr()

    def refused(*options, config="config.yaml"):
        command = ["posteriors", "ic", "--config", config, "--simulator", "coupled", "--observation", "left.h5"]
        assert main([*command, "--unconditioned", "right", "--job", "0", "--output", "p.h5", *options]) == 1
        assert not Path("p.h5").exists()
        return capsys.readouterr().err

    assert "network.from: other/network: no network here" in refused()
    assert "no trained network is given; give its folder with --network, or set network.from" in refused(
        config="plain.yaml"
    )
    layers = layer_table(PRIORS, 2, (6,))
    layers.simulator_build_id = "another build"
    checkpoint.save(Path("other/network"), ProposalNetwork(layers, SMALL))
    for options in ([], ["--network", "other/network"]):  # as the workflow calls it
        said = refused(*options)
        assert "network.from: other/network: trained on another simulator: expected simulator build" in said
        assert "found another build. Train the network on traces of this simulator. Or name a network of " in said
        assert "this simulator in the key, or remove the key to train one" in said
    said = refused("--network", "other/network", config="plain.yaml")
    assert "error: other/network: trained on another simulator" in said
