# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Embeddings of the observation."""

from pathlib import Path
from typing import Self

import pytest
import torch
from synthetic_batches import PRIORS, layer_table
from torch import Tensor, nn

from etalumis.config import NetworkConfig
from etalumis.errors import NetworkError
from etalumis.network import checkpoint
from etalumis.network.embedding import StridedEmbedding, make_embedding
from etalumis.network.model import ProposalNetwork

IMAGES = [(20, 35, 35), (5, 7, 9), (1, 1, 1), (64, 48), (3, 100), (1, 1)]


class Profile(nn.Module):
    """A user's embedding: a linear map of the sums over the first dimension."""

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[0], width)

    def forward(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the embedding."""
        return self.linear(observation.flatten(2).sum(-1))


class TooWide(Profile):
    """A module with an output of another width."""

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
        super().__init__(shape, channels, width + 1)


class NotAModule(tuple[int, ...]):
    """A class that torch cannot train."""

    def __new__(cls, shape: tuple[int, ...], channels: tuple[int, ...], width: int) -> Self:
        """Return a tuple."""
        return super().__new__(cls, (*shape, *channels, width))


@pytest.mark.parametrize("shape", IMAGES)
def test_the_strided_embedding_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    embedding = make_embedding("strided", shape, (4, 6, 8), 16)
    assert isinstance(embedding, StridedEmbedding)
    images = torch.randn(3, *shape)
    single = embedding(images)
    assert single.shape == (3, 16)
    reduced = embedding(images, torch.bfloat16)
    assert reduced.dtype == torch.float32
    # bfloat16 keeps 8 bits; the layer normalisation makes the embedding of order one
    torch.testing.assert_close(reduced, single, atol=0.1, rtol=0.0)
    assert not torch.equal(reduced, single)


def test_the_embedding_of_a_trace_does_not_depend_on_the_minibatch() -> None:
    torch.manual_seed(1)
    embedding, images = make_embedding("strided", (9, 12, 12), (4, 8), 16), torch.randn(5, 9, 12, 12)
    alone = torch.cat([embedding(image.unsqueeze(0)) for image in images])
    assert torch.allclose(embedding(images), alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 12, 12), (16, 16)])
def test_it_learns_where_a_shower_is(shape: tuple[int, ...]) -> None:
    """The position of one bright voxel in noise explains most of its variance; a constant embedding explains none."""
    torch.manual_seed(2)
    embedding = make_embedding("strided", shape, (8, 16), 16)
    head = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()], 3e-3)
    for _ in range(50):
        position = torch.randint(shape[-1], (32,))
        images = 0.3 * torch.randn(32, *shape)
        images[(torch.arange(32), *(extent // 2 for extent in shape[:-1]), position)] += 5.0
        target = position / shape[-1]
        loss = (head(embedding(images)).squeeze(1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * float(target.var())


def test_vectors_have_the_vector_embedding_unless_the_user_gives_a_module() -> None:
    assert make_embedding("strided", (7,), (4,), 16)(torch.randn(2, 7)).shape == (2, 16)
    name = f"{__name__}:Profile"
    assert isinstance(make_embedding(name, (7, 3), (4,), 16), Profile)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("no_such_module:Net", ["no_such_module:Net", "PYTHONPATH"]),
        (f"{__name__}:Missing", ["Missing", "MODULE:CLASS"]),
        (f"{__name__}:TooWide", ["(trace, 16)", "(2, 17)"]),
        ("fractions:Fraction", ["Fraction", "width 16"]),
        (f"{__name__}:NotAModule", ["NotAModule", "torch.nn.Module"]),
    ],
)
def test_a_module_that_cannot_be_used_is_named(name: str, parts: list[str]) -> None:
    with pytest.raises(NetworkError) as caught:
        make_embedding(name, (7, 3), (4,), 16)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("embedding", ["strided", f"{__name__}:Profile"])
def test_a_network_with_another_embedding_is_read_back(embedding: str, tmp_path: Path) -> None:
    config = NetworkConfig(embedding=embedding, conv_channels=(4, 4), observation_embedding=8, lstm_hidden=16)
    network = ProposalNetwork(layer_table(PRIORS, 1, (6, 8, 8)), config)
    checkpoint.save(tmp_path, network)
    again, image = checkpoint.load(tmp_path), torch.randn(2, 6, 8, 8)
    assert again.config.embedding == embedding
    assert torch.equal(again.embed(image), network.embed(image))
