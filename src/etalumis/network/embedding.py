# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Embeddings of the observation: the paper's 3DCNN for three-dimensional images, a small MLP for vectors."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from etalumis.errors import NetworkError

_POOLED_LAYERS = (1, 4)
"""Convolutions (from 0) that are followed by a MaxPool(2)."""


class InputScale(nn.Module):
    """Scale an observation to order one: (y - shift) / scale. The scale of an image is its noise.

    The scaling is linear although the voxels of showers reach tens of standard deviations: with asinh, which weakens
    them relative to the noise, training stayed on the plateau at the prior's loss four times as long.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def set(self, shift: float, scale: float) -> None:
        """Set shift and scale, in the units of the observation.

        Raises
        ------
        NetworkError
            If the scale is not positive and finite.
        """
        if not (0.0 < scale < math.inf and math.isfinite(shift)):
            raise NetworkError(f"input scale: expected a finite shift and a scale > 0, found {shift} and {scale}")
        self.shift.fill_(shift)
        self.scale.fill_(scale)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the scaled observation, same shape."""
        return (observation - self.shift) / self.scale


class ConvEmbedding(nn.Module):
    """Conv-Conv-MaxPool-Conv-Conv-Conv-MaxPool-FC, kernels of 3, no padding, ReLU (SC'19, section 4.3).

    Parameters
    ----------
    shape
        (depth, transverse, transverse) of the observation in voxels.
    channels
        Output channels of the five convolutions.
    width
        Width of the embedding.

    Raises
    ------
    NetworkError
        If the shape is too small for the convolutions.
    """

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        after = tuple(((extent - 4) // 2 - 6) // 2 for extent in shape)
        if min(after) < 1:
            raise NetworkError(
                f"observation shape {tuple(shape)}: too small for the 3DCNN, which needs at least 20 voxels in each "
                "direction; give the model a flat observation to use the vector embedding"
            )
        before = (1, *channels[:-1])
        self.convolutions = nn.ModuleList(nn.Conv3d(i, o, 3) for i, o in zip(before, channels, strict=True))
        self.convolutions.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # not in torch's stubs
        self.linear = nn.Linear(channels[-1] * math.prod(after), width)
        initialise_he(self)

    def forward(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the embedding (trace, width) of (trace, depth, transverse, transverse), computed in `dtype`.

        Explicit casts are 1.6 times as fast as autocast, which pools in float32. ReLU commutes with pooling and is
        cheaper after it.
        """
        image = observation.unsqueeze(1).to(dtype, memory_format=torch.channels_last_3d)
        for number, layer in enumerate(self.convolutions):
            assert isinstance(layer, nn.Conv3d)
            assert layer.bias is not None
            image = functional.conv3d(image, layer.weight.to(dtype), layer.bias.to(dtype))
            if number in _POOLED_LAYERS:
                image = functional.max_pool3d(image, 2)
            image = torch.relu_(image)
        return torch.relu(functional.linear(image.flatten(1), self.linear.weight.to(dtype), self.linear.bias.to(dtype)))


class VectorEmbedding(nn.Module):
    """Two fully connected layers with ReLU, for observations of fewer than three dimensions (flattened)."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stack = nn.Sequential(nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        initialise_he(self)

    def forward(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the embedding (trace, width) of (trace, *shape), in float32 for any `dtype`: it is cheap."""
        embedded: Tensor = self.stack(observation.reshape(len(observation), -1))
        return embedded


def make_embedding(shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> nn.Module:
    """Return the embedding for observations of `shape`: an image has three dimensions, a vector fewer."""
    if len(shape) == 3:
        return ConvEmbedding(shape, channels, width)
    if len(shape) < 3:
        return VectorEmbedding(shape, width)
    raise NetworkError(f"observation shape {tuple(shape)}: expected at most three dimensions")


def initialise_he(module: nn.Module) -> None:
    """Initialise weights as He et al. 2015 and biases with zero: torch's default attenuates deep ReLU stacks."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
