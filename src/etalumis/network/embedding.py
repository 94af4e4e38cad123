# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Embeddings of observations: the paper's 3DCNN, a strided and normalised CNN for small budgets, an MLP for vectors.

Every embedding is a module that is called with the scaled observation, float32 (trace, *shape), and the type of its
matrix products, and returns (trace, width).
"""

import importlib
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from etalumis.errors import NetworkError
from etalumis.network.recurrent import linear

_GROUPS = 4
"""Maximum number of groups of a group normalisation."""
_STRIDED_LAYERS = 2
"""Number of convolutions with stride 2 at the start of the strided embedding."""
_POOLED_LAYERS = (1, 4)
"""Convolutions (from 0) that are followed by a MaxPool(2)."""
_MIN_VOXELS = 20
"""Smallest extent of an image that the convolutions of the paper leave something of."""


class InputScale(nn.Module):
    """Scale an observation to order one: (y - shift) / scale. The scale of an image is its noise.

    Elements of a vector are different quantities, so each has its own shift and scale; those of an image have the same.
    The scaling is linear although the voxels of showers reach tens of standard deviations: with asinh, which weakens
    them relative to the noise, training stayed on the plateau at the prior's loss four times as long.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        own = shape if len(shape) < 2 else ()
        self.register_buffer("shift", torch.zeros(own))
        self.register_buffer("scale", torch.ones(own))

    def set(self, shift: ArrayLike, scale: ArrayLike) -> None:
        """Set shift and scale, in the units of the observation: a number, or one for each element of a vector.

        Raises
        ------
        NetworkError
            If a scale is not positive and finite.
        """
        shift, scale = np.asarray(shift, np.float32), np.asarray(scale, np.float32)
        if not (np.isfinite(shift).all() and np.isfinite(scale).all() and np.all(scale > 0.0)):
            raise NetworkError(f"input scale: expected a finite shift and a scale > 0, found {shift} and {scale}")
        self.shift.copy_(torch.from_numpy(shift))
        self.scale.copy_(torch.from_numpy(scale))

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
    """

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        after = tuple(((extent - 4) // 2 - 6) // 2 for extent in shape)
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


class StridedEmbedding(nn.Module):
    """A convolutional network for images of any size, made for a small training budget.

    The first convolutions have stride 2, which gives a small image early. Zeros are added only in directions in which
    the image is shorter than two kernels. A group normalisation (Wu and He 2018)
    follows each convolution, and a layer normalisation each of the two fully connected layers: the network then learns
    with a learning rate several times higher. The normalisations use one trace at a time, so the embedding of a trace
    depends neither on the minibatch nor on the number of ranks.

    Parameters
    ----------
    shape
        Shape of the observation. The convolutions run over its last two or three dimensions; those before are channels.
    channels
        Output channels of the convolutions. The first has a kernel of 5, the others of 3.
    width
        Width of the embedding; the layer before it has twice this width.
    """

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        dimensions = min(len(shape), 3)
        convolution: type[nn.Conv2d | nn.Conv3d] = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.layout = torch.channels_last_3d if dimensions == 3 else torch.channels_last
        self._convolve: Callable[..., Tensor] = functional.conv3d if dimensions == 3 else functional.conv2d
        extents, before = shape[-dimensions:], math.prod(shape[:-dimensions])
        self.image = (before, *extents)
        layers, norms = [], []
        for number, out in enumerate(channels):
            kernel, stride = (5 if number == 0 else 3), (2 if number < _STRIDED_LAYERS else 1)
            padding = tuple(kernel // 2 if extent < 2 * kernel else 0 for extent in extents)
            layers.append(convolution(before, out, kernel, stride=stride, padding=padding))  # type: ignore[arg-type] # one class for both dimensions
            norms.append(nn.GroupNorm(math.gcd(_GROUPS, out), out))
            before = out
            extents = tuple((e + 2 * p - kernel) // stride + 1 for e, p in zip(extents, padding, strict=True))
        self.convolutions, self.norms = nn.ModuleList(layers), nn.ModuleList(norms)
        self.convolutions.to(memory_format=self.layout)  # type: ignore[call-overload] # not in torch's stubs
        self.dense = nn.ModuleList([nn.Linear(before * math.prod(extents), 2 * width), nn.Linear(2 * width, width)])
        self.dense_norms = nn.ModuleList([nn.LayerNorm(2 * width), nn.LayerNorm(width)])
        initialise_he(self)

    def forward(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the embedding (trace, width) of (trace, *shape).

        The products are computed in `dtype`, except those of the first convolution, whose few channels gain nothing.
        The normalisations are computed in float32.
        """
        image = observation.reshape(-1, *self.image).to(memory_format=self.layout)
        for number, (layer, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            assert isinstance(layer, nn.Conv2d | nn.Conv3d)
            assert layer.bias is not None
            reduced = dtype if number > 0 else torch.float32
            weight, bias = layer.weight.to(reduced), layer.bias.to(reduced)
            product = self._convolve(image.to(reduced), weight, bias, layer.stride, layer.padding)
            image = torch.relu(norm(product.float()))
        hidden = image.flatten(1)
        for layer, norm in zip(self.dense, self.dense_norms, strict=True):
            assert isinstance(layer, nn.Linear)
            hidden = torch.relu(norm(linear(hidden, layer.weight, layer.bias, dtype)))
        return hidden


class VectorEmbedding(nn.Module):
    """Two fully connected layers with ReLU, for vectors and single numbers."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stack = nn.Sequential(nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        initialise_he(self)

    def forward(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the embedding (trace, width) of (trace, *shape), in float32 for any `dtype`: it is cheap."""
        embedded: Tensor = self.stack(observation.reshape(len(observation), -1))
        return embedded


def make_embedding(kind: str, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> nn.Module:
    """Return the embedding of observations of `shape`.

    Parameters
    ----------
    kind
        "paper": a `ConvEmbedding` for images of three dimensions with at least 20 voxels in each, a `StridedEmbedding`
        for other images; "strided": a `StridedEmbedding` for all images; or `module:class` of a user's module, which is
        called as ``cls(shape, channels, width)``. Numbers and vectors have a `VectorEmbedding` unless the user gives a
        module.
    shape, channels, width
        See `StridedEmbedding`.

    Raises
    ------
    NetworkError
        If the observation has no elements, or the user's module cannot be used.
    """
    if math.prod(shape) == 0:
        raise NetworkError(f"observation shape {tuple(shape)}: expected at least one element")
    if ":" in kind:
        return _user_embedding(kind, shape, channels, width)
    if len(shape) < 2:
        return VectorEmbedding(shape, width)
    deep = kind == "paper" and len(shape) == 3 and min(shape) >= _MIN_VOXELS
    return (ConvEmbedding if deep else StridedEmbedding)(shape, channels, width)


def _user_embedding(name: str, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> nn.Module:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"network.embedding: {name}: {error}; expected MODULE:CLASS that Python can import from its path "
            "(PYTHONPATH, or an installed package)"
        ) from None
    try:
        embedding = found(shape, channels, width)
        if not isinstance(embedding, nn.Module):
            raise TypeError(f"expected a torch.nn.Module, found {type(embedding).__name__}")
        with torch.inference_mode():
            embedded = embedding(torch.zeros(2, *shape), torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NetworkError(
            f"network.embedding: {name}, called with shape {tuple(shape)}, channels {tuple(channels)} and width "
            f"{width}, and then with two traces, failed: {error}"
        ) from error
    if tuple(embedded.shape) != (2, width):
        raise NetworkError(
            f"network.embedding: {name}: expected an output of shape (trace, {width}), "
            f"found {tuple(embedded.shape)} for two traces of shape {tuple(shape)}"
        )
    return embedding


def initialise_he(module: nn.Module) -> None:
    """Initialise weights as He et al. 2015 and biases with zero: torch's default attenuates deep ReLU stacks."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
