# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A network on disk: a folder with tensors.pt (tensors only), manifest.json and layers.json.

The manifest has the checksum of the tensors. It is written under another name before the tensors are renamed, and
renamed after them: a crash at any point leaves the old pair or the new one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from etalumis.config import NetworkConfig
from etalumis.errors import NetworkError
from etalumis.files import atomic_path, sha256_of, write_json_atomic
from etalumis.layers import LayerTable
from etalumis.network.model import ProposalNetwork
from etalumis.refusals import storage_errors
from etalumis.simulator.built import BuiltSimulator

FORMAT = "etalumis-network"
VERSION = 2
MANIFEST = "manifest.json"
_PENDING = "manifest.pending.json"


def save(
    directory: Path,
    network: ProposalNetwork,
    training: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write a network, and the state of its training if it can be resumed.

    Parameters
    ----------
    directory
        Folder; created if it does not exist.
    network
        The network.
    training
        Record of the training, for JSON.
    tensors
        Tensors of the training: the moments of the optimizer.

    Raises
    ------
    StorageError
        If a file cannot be written, for instance because the disk is full; the previous network stays whole.
    """
    content = {"network": network.state_dict(), "training": {k: dict(v) for k, v in (tensors or {}).items()}}
    network.layers.save(directory / "layers.json")
    with storage_errors(directory / "tensors.pt", "written"):
        with atomic_path(directory / "tensors.pt") as temporary:
            _save_tensors(content, temporary)
            manifest = _manifest(network, sha256_of(temporary), dict(training or {}))
            write_json_atomic(directory / _PENDING, manifest)
        (directory / _PENDING).replace(directory / MANIFEST)


def _save_tensors(content: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch reports an incomplete archive, and hides the cause
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def update_training(directory: Path, changes: Mapping[str, Any]) -> None:
    """Change entries in the training record of a saved network; its tensors are not rewritten."""
    manifest = read_manifest(directory)
    write_json_atomic(directory / MANIFEST, {**manifest, "training": {**manifest["training"], **changes}})


def _manifest(network: ProposalNetwork, checksum: str, training: dict[str, Any]) -> dict[str, Any]:
    layers = network.layers
    return {
        "format": FORMAT,
        "version": VERSION,
        "simulator_build_id": layers.simulator_build_id,
        "config_digest": layers.config_digest,
        "layers_digest": layers.digest,
        "addresses": len(layers),
        "parameters": network.parameter_count(),
        "observations": network.observation.describe(),
        "network": network.config.architecture(),
        "tensors_sha256": checksum,
        "training": training,
    }


def load(directory: Path) -> ProposalNetwork:
    """Read a network.

    Raises
    ------
    NetworkError
        If a file is missing, altered, or of another format or version, or if the files do not belong together.
    """
    network, _, _ = load_training(directory)
    return network


def load_for(directory: Path, built: BuiltSimulator) -> tuple[ProposalNetwork, str]:
    """Read a network that was trained on traces of a simulator; return it and the digest of its tensors.

    Raises
    ------
    NetworkError
        As `load`, or if it was trained on another simulator or other settings.
    """
    network = load(directory)
    misfit = built.misfit(network.layers.simulator_build_id, network.layers.config_digest)
    if misfit is not None:
        raise NetworkError(
            f"{directory}: trained on another simulator: {misfit}. Train the network on traces of this simulator."
        )
    return network, str(read_manifest(directory)["tensors_sha256"])


def load_training(directory: Path) -> tuple[ProposalNetwork, dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a network, the record of its training and the tensors of its training; raises as `load`."""
    manifest = read_manifest(directory)
    # a crash may leave the table of a network that had grown since; its first rows are those of the tensors
    layers = LayerTable.load(directory / "layers.json").first(manifest["addresses"])
    if layers.digest != manifest["layers_digest"]:
        raise NetworkError(
            f"{directory}: layers.json has digest {layers.digest}, the network was made for "
            f"{manifest['layers_digest']}; restore the folder as a whole or train again"
        )
    try:
        config = NetworkConfig(**manifest["network"])
    except ValidationError as error:
        raise NetworkError(
            f"{directory / 'manifest.json'}: its architecture is not one of this version: {error}"
        ) from None
    network = ProposalNetwork(layers, config)
    content = _load_tensors(directory / "tensors.pt")
    if manifest["version"] == 1:
        content = _of_version_1(content, network, directory)
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        raise NetworkError(
            f"{directory / 'tensors.pt'}: does not fit its own layers and architecture: {error}"
        ) from None
    return network, manifest["training"], content["training"]


def _load_tensors(path: Path) -> dict[str, Any]:
    with storage_errors(path, "read"):
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:  # its checksum is right, so the file is not damaged
            raise NetworkError(f"{path}: cannot be loaded by torch {torch.__version__}: {error}") from None
    return content


def _of_version_1(content: dict[str, Any], network: ProposalNetwork, directory: Path) -> dict[str, Any]:
    """Return the tensors of a file of version 1 under the names of this version, parameters and moments alike.

    Raises
    ------
    NetworkError
        If its embedding no longer exists: version 1 embedded several observations, and images of two dimensions with
        the embedding of the paper, as one vector.
    """
    shapes = [layout.shape for layout in network.layers.observations]
    if len(shapes) > 1 or (network.config.embedding == "paper" and len(shapes[0]) == 2):
        raise NetworkError(
            f"{directory}: an earlier version embedded the observation {network.layers.observation_name!r} as one "
            "vector; this version embeds each observe statement by its shape. Train the network again."
        )
    renamed = {
        part: {_name_since_version_2(name): tensor for name, tensor in tensors.items()}
        for part, tensors in ({"network": content["network"]} | content["training"]).items()
    }
    parameters = renamed.pop("network")
    for name in ("shift", "scale"):
        key = f"observation.scales.0.{name}"
        parameters[key] = parameters[key].expand_as(network.state_dict()[key])
    return {"network": parameters, "training": renamed}


def _name_since_version_2(name: str) -> str:
    for old, new in (("input_scale.", "observation.scales.0."), ("observation.", "observation.embeddings.0.")):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a network, after checking it; raises as `load`."""
    directory = Path(directory)
    if not exists(directory):
        raise NetworkError(
            f"{directory}: no network here (tensors.pt is missing); train one with `etalumis network train`"
        )
    with storage_errors(directory / "tensors.pt", "read"):
        found = sha256_of(directory / "tensors.pt")
    # after a crash between the two renames, the manifest of the new tensors has its temporary name
    for name in (MANIFEST, _PENDING):
        manifest = _read_json(directory / name)
        if manifest is not None and manifest.get("tensors_sha256") == found:
            return manifest
    raise NetworkError(
        f"{directory}: tensors.pt (sha256 {found[:16]}...) is not the file that its manifest names: one of them was "
        "altered or truncated; restore the folder as a whole or train again"
    )


def exists(directory: Path) -> bool:
    """Return whether a folder contains a network or a checkpoint, valid or not.

    Raises
    ------
    StorageError
        If the system refuses to look.
    """
    with storage_errors(directory / "tensors.pt", "read"):
        try:
            (directory / "tensors.pt").stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _read_json(path: Path) -> dict[str, Any] | None:
    with storage_errors(path, "read"):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        content = json.loads(text)
    except ValueError as error:
        raise NetworkError(f"{path}: not JSON ({error}); restore the folder as a whole or train again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") not in (1, VERSION):
        raise NetworkError(
            f"{path}: expected {FORMAT!r} version 1 or {VERSION}; it was written by another program or version"
        )
    return content


def require_fits(network: ProposalNetwork, layers: LayerTable) -> None:
    """Check that a network was built for a layer table.

    Raises
    ------
    NetworkError
        If it was not; the message names the difference.
    """
    mine = network.layers
    seen, given = ({layout.name: layout.shape for layout in table.observations} for table in (mine, layers))
    if seen != given:
        raise NetworkError(f"the network observes {seen}, the dataset {given}; train a network on this dataset")
    if mine.digest != layers.digest:
        known, required = ({(r.address, r.kind, r.categories) for r in table.rows} for table in (mine, layers))
        example = sorted(known ^ required)[:1]
        raise NetworkError(
            f"the network was made for other layers: it lacks {len(required - known)} of the dataset and has "
            f"{len(known - required)} that the dataset lacks (such as {example}); train a network on this dataset"
        )
