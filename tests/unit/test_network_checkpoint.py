# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Network folders: whole or not there, and clear about what does not fit."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_batches import PRIORS, SMALL, layer_table, random_batch
from system_errors import fail_to_find, fail_to_read, files_end_at, no_free_descriptors

from etalumis.errors import EtalumisError, NetworkError, StorageError
from etalumis.files import sha256_of
from etalumis.layers import LayerTable, ObservationLayout
from etalumis.network import ProposalNetwork, checkpoint
from etalumis.training.evaluate import log_proposals

LAYERS = layer_table(PRIORS, 2, (6,))


def network_of(seed: int = 1) -> ProposalNetwork:
    network = ProposalNetwork(LAYERS, SMALL, seed)
    network.observation.scales[0].set(0.25, 3.0)
    return network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "network", network_of(), {"note": 1})
    return tmp_path / "network"


def test_a_saved_network_is_loaded_unchanged(saved: Path) -> None:
    batch = random_batch(LAYERS, PRIORS, [4, 9], np.random.default_rng(0))
    loaded, training, _ = checkpoint.load_training(saved)
    np.testing.assert_array_equal(log_proposals(loaded, batch), log_proposals(network_of(), batch))
    assert training == {"note": 1}
    assert sorted(path.name for path in saved.iterdir()) == ["layers.json", "manifest.json", "tensors.pt"]


def as_version_1(folder: Path) -> None:
    """Rewrite a folder as version 1 had it, with other names of the tensors and one shift and scale per observation."""
    content = torch.load(folder / "tensors.pt")
    for tensors in (content["network"], *content["training"].values()):
        for name in [name for name in tensors if name.startswith("observation.")]:
            tensor = tensors.pop(name)
            if ".scales.0." in name:
                tensors[name.replace("observation.scales.0", "input_scale")] = tensor.flatten()[0]
            else:
                tensors[name.replace("observation.embeddings.0", "observation")] = tensor
    torch.save(content, folder / "tensors.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["observations"]
    changed = {"version": 1, "tensors_sha256": sha256_of(folder / "tensors.pt")}
    (folder / "manifest.json").write_text(json.dumps(manifest | changed))


def test_a_network_of_version_1_is_loaded_unchanged(saved: Path) -> None:
    moments = {name: torch.randn_like(value) for name, value in network_of().dense().items()}
    checkpoint.save(saved, network_of(), tensors={"first": moments})
    as_version_1(saved)
    batch = random_batch(LAYERS, PRIORS, [4, 9], np.random.default_rng(0))
    loaded, _, training = checkpoint.load_training(saved)
    np.testing.assert_array_equal(log_proposals(loaded, batch), log_proposals(network_of(), batch))
    assert all(torch.equal(training["first"][name], moments[name]) for name in moments)


def test_a_network_of_version_1_that_embeds_several_observations_as_one_vector_is_refused(saved: Path) -> None:
    layers = LayerTable(LAYERS.rows, [ObservationLayout("image", (3, 4), None), ObservationLayout("hits", (), None)])
    checkpoint.save(saved, ProposalNetwork(layers, SMALL))
    as_version_1(saved)
    with pytest.raises(NetworkError, match=r"'image,hits' as one vector.*Train the network again"):
        checkpoint.load(saved)


def test_the_seed_determines_the_initial_network() -> None:
    first, again, other = (network_of(seed).tables["address"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_tensors_whose_manifest_was_not_yet_renamed_are_whole(saved: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "later", network_of(2), {"note": 2})
    # a crash between the two renames: new tensors, old manifest, new manifest under its first name
    (tmp_path / "later" / "tensors.pt").replace(saved / "tensors.pt")
    (tmp_path / "later" / "manifest.json").replace(saved / "manifest.pending.json")
    loaded, training, _ = checkpoint.load_training(saved)
    assert training == {"note": 2}
    assert torch.equal(loaded.tables["address"], network_of(2).tables["address"])


def damage_tensors(folder: Path) -> None:
    content = bytearray((folder / "tensors.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "tensors.pt").write_bytes(content)


def truncate_tensors(folder: Path) -> None:
    (folder / "tensors.pt").write_bytes((folder / "tensors.pt").read_bytes()[:-100])


def remove_tensors(folder: Path) -> None:
    (folder / "tensors.pt").unlink()


def change_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))


def break_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def other_layers(folder: Path) -> None:
    layer_table(PRIORS, 1, (6,)).save(folder / "layers.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_tensors, "altered or truncated"),
        (truncate_tensors, "altered or truncated"),
        (remove_tensors, "no network here"),
        (change_version, "version 1 or 2"),
        (break_json, "not JSON"),
        (other_layers, "digest"),
    ],
)
def test_a_damaged_network_is_an_error(saved: Path, damage, message: str) -> None:
    damage(saved)
    with pytest.raises(NetworkError, match=message):
        checkpoint.load(saved)


@pytest.mark.parametrize("name", ["tensors.pt", "manifest.json", "layers.json"])
@pytest.mark.parametrize("fail", [fail_to_read, fail_to_find])
def test_an_error_of_the_system_is_not_called_damage(saved: Path, name: str, fail: Callable[[Path], str]) -> None:
    reason = fail(saved / name)
    with pytest.raises(EtalumisError, match=rf"{name}: cannot be read \({reason}\).* not damage"):
        checkpoint.load(saved)


def test_a_process_out_of_descriptors_is_not_called_damage(saved: Path) -> None:
    with (
        no_free_descriptors(),
        pytest.raises(StorageError, match=r"tensors\.pt: cannot be read \(Too many open files"),
    ):
        checkpoint.load(saved)


def test_a_full_disk_leaves_the_network_that_was_there(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    half = len(before["tensors.pt"]) // 2
    with files_end_at(half), pytest.raises(StorageError, match=r"tensors\.pt: cannot be written \(File too large\)"):
        checkpoint.save(saved, network_of(2), {"note": 2})
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize(
    ("priors", "instances", "shape", "message"),
    [
        (PRIORS, 3, (6,), f"lacks {len(PRIORS)} of the dataset and has 0"),
        (PRIORS[:-1], 2, (6,), "lacks 0 of the dataset and has 2"),
        (PRIORS, 2, (7,), r"'y': \(6,\)}, the dataset {'y': \(7,\)}"),
    ],
)
def test_a_network_that_does_not_fit_says_what_differs(
    priors, instances: int, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        checkpoint.require_fits(network_of(), layer_table(priors, instances, shape))


def test_a_network_fits_its_own_layers() -> None:
    checkpoint.require_fits(network_of(), LAYERS)
