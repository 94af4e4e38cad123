# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a user sees who gives the command line something wrong: one message, exit code 1, nothing half written."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from etalumis.cli import main
from etalumis.config import NetworkConfig, SimulatorConfig
from etalumis.layers import LayerTable, build
from etalumis.network import checkpoint
from etalumis.network.model import ProposalNetwork
from etalumis.traces import observation
from etalumis.traces.observation import ObservedStatement

TINY = NetworkConfig(
    conv_channels=(2, 2, 2, 2, 2), observation_embedding=4, lstm_hidden=8, address_embedding=4, mixture_components=2
)


class CommandLine:
    """`etalumis` in a folder with a configuration, a simulator, traces and an observation."""

    def __init__(self, folder: Path, simulator: Path) -> None:
        self.folder = folder
        shutil.copytree(simulator, folder / "simulator_dir", symlinks=True)
        self.configure("")
        self.done("traces generate --config C --simulator simulator_dir --split test --output traces.h5")
        self.done("traces observation --input traces.h5 --trace 0 --seed 1 --output observation.h5")

    def configure(self, simulator: str) -> None:
        posteriors = "posteriors: {rmh: {runs: 20, thin: 1}, ic: {runs: 3}}"
        text = f"traces: {{test: 4}}\n{posteriors}\nsimulator: {{{simulator}}}\n"
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    def call(self, line: str) -> int:
        words = line.replace(" C ", " config.yaml ").split()
        return main([str(self.folder / word) if self._is_file(word) else word for word in words])

    def done(self, line: str) -> None:
        assert self.call(line) == 0, line

    def _is_file(self, word: str) -> bool:
        return re.search(r"\.(h5|json|yaml)$", word) is not None or word.endswith("_dir")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sherpa_simulator: Path) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("bad"), sherpa_simulator)


@pytest.fixture
def refused(project: CommandLine, capsys: pytest.CaptureFixture[str]):
    """Call a line that must fail, and return the one message."""

    def refuse(line: str) -> str:
        before = {path: path.stat().st_mtime_ns for path in project.folder.rglob("*.h5")}
        capsys.readouterr()
        assert project.call(line) == 1
        assert {path: path.stat().st_mtime_ns for path in project.folder.rglob("*.h5")} == before
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.count("etalumis: error: ") == 1
        return error

    return refuse


INPUTS = "--config C --simulator simulator_dir --observation"
ENGINE = f"--output posterior.h5 {INPUTS}"


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("exit", "exited with code 3 in run 1, delegated with seed"),
        ("hang", "did not answer within 0.5 s in run 1, delegated with seed"),
        ("garbage", "sent an invalid message in run 1, delegated with seed"),
    ],
)
def test_a_simulator_that_fails(project, refused, cpp_examples: Path, mode: str, message: str) -> None:
    program = project.folder / "simulator_dir" / "bin" / "sherpa_tau"
    right = program.read_bytes()
    program.write_text(f'#!/bin/sh\nexec {cpp_examples / "misbehave"} "$1" --mode {mode}\n', encoding="utf-8")
    project.configure("timeout_s: 0.5, retries: 1")
    try:
        error = refused("traces generate --config C --simulator simulator_dir --split test --output new.h5")
    finally:
        program.write_bytes(right)
        project.configure("")
    assert re.search(r"trace 0 \(seed \d+\) failed, attempt 1", error)
    last = error.partition("etalumis: error: ")[2]
    assert message in last
    assert "command: " in last
    assert "it wrote to standard error:" in last
    assert ("simulator.timeout_s" in last) == (mode == "hang")


@pytest.mark.parametrize(
    "line",
    [
        "traces verify broken.h5",
        "traces sort --config C --input broken.h5 --output sorted_dir",
        "layers --input broken.h5 --output new.json",
        "traces observation --input broken.h5 --trace 0 --seed 1 --output new.h5",
    ],
)
@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_a_broken_shard(project, refused, line: str, how: str) -> None:
    path = project.folder / "broken.h5"
    whole = (project.folder / "traces.h5").read_bytes()
    path.unlink(missing_ok=True)
    path.write_bytes(whole[: len(whole) // 2] if how == "truncated" else whole)
    if how == "altered":
        with h5py.File(path, "r+") as file:
            file["entries/address"][3] = 0
    error = refused(line)
    assert re.search(rf"broken\.h5: .*{how}.*delete", error)
    if how == "altered":
        assert re.search(r"column 'entries/address' was altered: expected checksum \w{32}, found \w{32}", error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "calorimter"}, "the model does not observe 'calorimter'; it observes 'calorimeter'"),
        ({"shape": 34}, "has shape (20, 35, 34); the model observes shape (20, 35, 35)"),
    ],
)
def test_an_observation_that_does_not_fit(project, refused, change: dict, message: str) -> None:
    right = observation.load(project.folder / "observation.h5")
    image = right.observed["calorimeter"].value[..., : change.get("shape", 35)]
    observed = {change.get("name", "calorimeter"): ObservedStatement(image)}
    observation.save(replace(right, observed=observed), project.folder / "wrong.h5")
    assert message in refused(f"posteriors rmh {ENGINE} wrong.h5 --chain 0")


def test_an_observation_file_that_is_cut_or_missing(project, refused) -> None:
    (project.folder / "cut.h5").write_bytes((project.folder / "observation.h5").read_bytes()[:20_000])
    assert "truncated, altered or not a valid observation file" in refused(f"posteriors rmh {ENGINE} cut.h5 --chain 0")
    assert "no such observation file" in refused(f"posteriors rmh {ENGINE} none.h5 --chain 0")


def test_an_observation_of_another_simulator(project, refused) -> None:
    was = SimulatorConfig().noise_gev
    project.configure("noise_gev: 0.2")
    try:
        error = refused(f"posteriors rmh {ENGINE} observation.h5 --chain 0")
        assert f"sherpa_tau.conf: does not match the configuration: noise_gev: expected 0.2, found {was}" in error
        project.done("simulator config --config C --output simulator_dir")
        error = refused(f"posteriors rmh {ENGINE} observation.h5 --chain 0")
        assert f"observation.h5: belongs to another simulator: simulator.noise_gev: expected 0.2, found {was}" in error
    finally:
        project.configure("")
        project.done("simulator config --config C --output simulator_dir")
    # back to where it was, the same files fit again
    project.done(f"posteriors rmh {ENGINE} observation.h5 --chain 0")


def write_network(folder: Path, layers: LayerTable) -> None:
    checkpoint.save(folder, ProposalNetwork(layers, TINY))


def test_a_network_of_another_simulator(project, refused) -> None:
    layers = build([project.folder / "traces.h5"])
    other = LayerTable(layers.rows, layers.observations, layers.simulator_build_id, "0123456789abcdef")
    write_network(project.folder / "network_dir", other)
    error = refused(f"posteriors ic --output ic.h5 {INPUTS} observation.h5 --network network_dir --job 0")
    assert re.search(r"network_dir: trained on another simulator: expected config digest .*0123456789abcdef", error)


def test_a_network_for_another_observation(project, refused) -> None:
    layers = build([project.folder / "traces.h5"])
    layout = replace(layers.observations[0], name="tracker")
    other = LayerTable(layers.rows, [layout], layers.simulator_build_id, layers.config_digest)
    write_network(project.folder / "network_dir", other)
    error = refused(f"posteriors ic --output ic.h5 {INPUTS} observation.h5 --network network_dir --job 0")
    assert "the network was trained on the observation 'tracker'; found ['calorimeter']" in error


def test_a_damaged_network(project, refused) -> None:
    write_network(project.folder / "network_dir", build([project.folder / "traces.h5"]))
    tensors = project.folder / "network_dir" / "tensors.pt"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    error = refused(f"posteriors ic --output ic.h5 {INPUTS} observation.h5 --network network_dir --job 0")
    assert re.search(r"network_dir: tensors\.pt .* altered or truncated; restore the folder as a whole or train", error)


def test_workers_without_a_simulator(refused) -> None:
    call = "network train --config C --layers layers.json --train traces.h5 --valid traces.h5 --output network_dir"
    assert "--workers: belongs to --simulator" in refused(f"{call} --workers 2")


def test_layers_that_do_not_fit_the_dataset(project, refused) -> None:
    layers = build([project.folder / "traces.h5"])
    LayerTable(layers.rows, layers.observations, "another build", layers.config_digest).save(
        project.folder / "layers.json"
    )
    error = refused(
        "network train --config C --layers layers.json --train traces.h5 --valid traces.h5 --output network_dir"
    )
    assert re.search(r"traces\.h5: the layer table was built for simulator build another build", error)
