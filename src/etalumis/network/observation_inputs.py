# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""All observations of a trace as one vector: each is scaled and embedded by itself, and the results are joined."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from etalumis.config import NetworkConfig
from etalumis.errors import NetworkError
from etalumis.layers import ObservationLayout
from etalumis.network.embedding import InputScale, initialise_he, make_embedding


class ObservationInputs(nn.Module):
    """Scales and embeddings of the observe statements; a fully connected layer joins several embeddings.

    Parameters
    ----------
    layouts
        The observe statements, in the order of their concatenation.
    config
        Architecture; `observation_embedding` is the width of each embedding and of the result.

    Raises
    ------
    NetworkError
        If there is no observe statement, or an embedding cannot be made for one.
    """

    def __init__(self, layouts: Sequence[ObservationLayout], config: NetworkConfig) -> None:
        super().__init__()
        if not layouts:
            raise NetworkError("the traces have no observe statement; a network needs an observation to learn from")
        width = config.observation_embedding
        self.layouts = tuple(layouts)
        self.scales = nn.ModuleList(InputScale(layout.shape) for layout in layouts)
        self.embeddings = nn.ModuleList(
            make_embedding(config.embedding, layout.shape, config.conv_channels, width) for layout in layouts
        )
        self.join = nn.Linear(len(layouts) * width, width) if len(layouts) > 1 else None
        if self.join is not None:
            initialise_he(self.join)

    def split(self, observation: Tensor) -> list[Tensor]:
        """Return each observation (trace, *shape) of minibatches as `Minibatch.observation` has them."""
        flat = observation.reshape(len(observation), -1)
        starts = itertools.accumulate((layout.size for layout in self.layouts), initial=0)
        return [
            flat.narrow(1, start, layout.size).reshape(-1, *layout.shape)
            for start, layout in zip(starts, self.layouts, strict=False)
        ]

    def forward(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the embedding (trace, width) of unscaled observations; `dtype` is that of the matrix products."""
        embedded: list[Tensor] = [
            embedding(scale(part), dtype)
            for part, scale, embedding in zip(self.split(observation), self.scales, self.embeddings, strict=True)
        ]
        if self.join is None:
            return embedded[0].float()
        return torch.relu(self.join(torch.cat([part.float() for part in embedded], 1)))

    def describe(self) -> list[dict[str, Any]]:
        """Return name, shape, embedding and scale of each observation, as JSON values."""
        return [
            {
                "name": layout.name,
                "shape": list(layout.shape),
                "embedding": type(embedding).__name__,
                **{name: value.tolist() for name, value in scale.state_dict().items()},
            }
            for layout, scale, embedding in zip(self.layouts, self.scales, self.embeddings, strict=True)
        ]
