# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The network from which a training starts: a new one, or a finished one whose layer table may have grown."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from etalumis.config import Config, NetworkConfig
from etalumis.counting import counted
from etalumis.errors import NetworkError
from etalumis.layers import LayerTable, ObservationLayout
from etalumis.network import checkpoint
from etalumis.network.model import ProposalNetwork
from etalumis.seeds import derive
from etalumis.traces.block import Layout

logger = logging.getLogger(__name__)


def initial_seed(run_seed: int) -> int:
    """Return the seed of the initial parameters of a run."""
    return derive(run_seed, "network/start", 0)


@dataclass(frozen=True)
class Start:
    """A finished network that is trained on.

    Attributes
    ----------
    network
        The network, in the arithmetic of the configuration and with its own layers.
    moments
        State of its optimizer; None if it is unknown, or that of another rule.
    digest
        Digest of its tensors.
    """

    network: ProposalNetwork
    moments: dict[str, dict[str, Tensor]] | None
    digest: str


def load_start(folder: Path, config: Config, layers: LayerTable) -> Start:
    """Read a finished network, to be trained on with a layer table that extends its own.

    Its checkpoint, if it is still there, has the weights of the last iteration and the state of the optimizer.

    Parameters
    ----------
    folder
        Folder of the network.
    config
        The configuration, whose architecture must be that of the network.
    layers
        The layer table of the training.

    Raises
    ------
    NetworkError
        If the network cannot be read, or has another architecture, observation or simulator, or addresses that are not
        in the first rows of the table.
    """
    manifest = checkpoint.read_manifest(folder)
    network, _, moments = _last_state(folder, manifest["training"]) or checkpoint.load_training(folder)
    _require_same_architecture(folder, network.config, config.network)
    _require_extended(folder, network.layers, layers)
    rule, before = config.training.optimizer, _optimizer(manifest["training"])
    usable = "first" in moments and rule.partition("_")[0] == before.partition("_")[0]
    if not usable:
        reason = f"was {before}, not {rule}" if "first" in moments else "is not there (DIR/checkpoint)"
        logger.info("%s: the state of its optimizer %s; it starts anew", folder, reason)
    own = ProposalNetwork(network.layers, config.network)
    own.load_state_dict(network.state_dict())
    return Start(own, moments if usable else None, str(manifest["tensors_sha256"]))


def _last_state(
    folder: Path, finished: dict[str, Any]
) -> tuple[ProposalNetwork, dict[str, Any], dict[str, dict[str, Tensor]]] | None:
    """Return the checkpoint of a finished network, or None if there is none or a later training has written it."""
    if not checkpoint.exists(folder / "checkpoint"):
        return None
    record = checkpoint.read_manifest(folder / "checkpoint")["training"]
    same = record.get("identity") == finished.get("identity") and record["state"]["iteration"] == finished["iterations"]
    return checkpoint.load_training(folder / "checkpoint") if same else None


def _optimizer(finished: dict[str, Any]) -> str:
    return str(finished.get("hyperparameters", {}).get("optimizer", "unknown"))


def _require_same_architecture(folder: Path, found: NetworkConfig, expected: NetworkConfig) -> None:
    mine, theirs = expected.architecture(), found.architecture()
    differing = [
        f"network.{key}: {mine[key]} (the network has {theirs[key]})"
        for key in mine
        if key != "dtype" and mine[key] != theirs[key]
    ]
    if differing:
        raise NetworkError(
            f"{folder}: the configuration describes another architecture: {'; '.join(differing)}. A network is trained "
            "on with its own architecture: change these keys, or train a new network"
        )


def _require_extended(folder: Path, mine: LayerTable, given: LayerTable) -> None:
    for what, expected, found in (
        ("observations", observation_shapes(mine.observations), observation_shapes(given.observations)),
        ("simulator build", mine.simulator_build_id, given.simulator_build_id),
        ("config digest", mine.config_digest, given.config_digest),
    ):
        if expected != found:
            raise NetworkError(
                f"{folder}: the network was trained for {what} {expected}, the layer table is of {found}. A network is "
                "trained on with traces of its own simulator and observations: use such traces, or train a new network"
            )
    if not given.extends(mine):
        missing = sorted({row.address for row in mine.rows} - {row.address for row in given.rows})
        lacks = f"lacks {counted(len(missing), 'address', 'addresses')} of them" if missing else "has another order"
        raise NetworkError(
            f"{folder}: the layer table must begin with the {counted(len(mine), 'address', 'addresses')} of the "
            f"network, in their order; it {lacks}. Make it with `etalumis layers --grow {folder}/layers.json`"
        )


def observation_shapes(layouts: Iterable[ObservationLayout | Layout]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each observe statement."""
    return {layout.name: layout.shape for layout in layouts}
