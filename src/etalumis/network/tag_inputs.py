# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tags as inputs of the network: numbers that the simulator has computed from earlier draws.

A network could learn to compute them from these draws itself, but the simulator does so in thousands of lines. If it
emits them as a tag before a draw, the proposal of this draw can depend on them directly (not in SC'19).
"""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from etalumis.errors import NetworkError
from etalumis.layers import LayerTable, TagInput
from etalumis.typing import Array

logger = logging.getLogger(__name__)


class TagInputs(nn.Module):
    """Standardised tags, each visible to some layers only.

    Parameters
    ----------
    layers
        The layers, and the tags of the simulator.
    visible
        Name of the tag -> names of the draws that see it.

    Raises
    ------
    NetworkError
        If the simulator has no such tag or draw, or the length of a tag varies.
    """

    def __init__(self, layers: LayerTable, visible: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        known = {tag.name: tag for tag in layers.tags}
        draws = {row.name for row in layers.rows if row.name}
        for name, names in visible.items():
            if name not in known:
                raise NetworkError(
                    f"network.tags: the traces have no tag {name!r} of fixed shape; they have {sorted(known)}"
                )
            if missing := sorted(set(names) - draws):
                raise NetworkError(
                    f"network.tags.{name}: the simulator has no controlled draws of the names {missing}; it has "
                    f"{sorted(draws)}"
                )
        self.tags: tuple[TagInput, ...] = tuple(known[name] for name in visible)
        self.width = sum(tag.size for tag in self.tags)
        self._visible = visible
        self.mask: Tensor
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("mask", self._mask(layers), persistent=False)
        self._seeing: list[bool] = self.mask.any(dim=1).tolist()
        self.register_buffer("shift", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))
        self.always: Tensor  # which numbers every trace had from which the scale was learned
        self.register_buffer("always", torch.zeros(self.width, dtype=torch.bool))
        self._warned = False

    def _mask(self, layers: LayerTable) -> Tensor:
        """Return (layer, width): 1 where a layer sees a tag, else 0."""
        columns = [np.full(tag.size, number) for number, tag in enumerate(self.tags)]
        sees = [[float(row.name in self._visible[tag.name]) for tag in self.tags] for row in layers.rows]
        return torch.tensor(sees, dtype=torch.float32)[:, torch.from_numpy(np.concatenate(columns))]

    def see(self, layers: LayerTable) -> None:
        """Use another layer table, with the same tags."""
        mask = self._mask(layers)
        self._seeing = mask.any(dim=1).tolist()
        self.mask = mask.to(self.mask.device)

    def learn_scale(self, tags: Array) -> None:
        """Standardise with the means and standard deviations of some traces (trace, width); NaN where one has no tag.

        A constant is only shifted.
        """
        known = ~np.isnan(tags)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, tags, 0.0).sum(axis=0) / count
        stddev = np.sqrt(np.where(known, np.square(tags - mean), 0.0).sum(axis=0) / count)
        self.shift.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(stddev > 0, stddev, 1.0)))
        self.always.copy_(torch.from_numpy(known.all(axis=0)))

    def sees(self, layer: int) -> bool:
        """Return whether a layer sees a tag."""
        return self._seeing[layer]

    def standardise(self, tags: Tensor) -> Tensor:
        """Return the inputs (n, width) of tags (n, width); a tag that a run does not have is replaced by its mean."""
        return torch.nan_to_num((tags.float() - self.shift) / self.scale)

    def masked(self, inputs: Tensor, layer: Tensor) -> Tensor:
        """Return standardised inputs (token, width), zero where the layer (token,) does not see the tag."""
        return inputs * self.mask[layer]

    def flat(self, tags: Mapping[str, Array]) -> Array:
        """Return the tags of one run (width,); NaN for those that it does not have, as in a dataset.

        Raises
        ------
        NetworkError
            If one has another shape.
        """
        parts = []
        for tag in self.tags:
            value = tags.get(tag.name)
            if value is not None and np.shape(value) != tag.shape:
                raise NetworkError(
                    f"network.tags: expected a tag {tag.name!r} of shape {tag.shape}, found shape {np.shape(value)}; "
                    "use the simulator that the network was trained for"
                )
            parts.append(np.full(tag.size, np.nan) if value is None else np.asarray(value, np.float64).reshape(-1))
        found = np.concatenate(parts)
        if not self._warned and bool((np.isnan(found) & self.always.numpy()).any()):
            self._warned = True
            absent = [tag.name for tag in self.tags if tag.name not in tags]
            logger.warning(
                "a run has no tag %s, which the traces of the training had; the network uses the mean in its place. "
                "Weights stay exact, but its proposals may be poor: use the simulator that it was trained for",
                ", ".join(map(repr, absent)) or "without NaN",
            )  # fmt: skip
        return found
