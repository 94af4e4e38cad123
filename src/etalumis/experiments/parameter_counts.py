# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Parameters of a network by part, counted from its architecture, and the numbers of addresses of the paper's networks.

The paper reports networks of 156,960,440 and 171,732,688 parameters for 3 M and 15 M traces (section 4.3), and not
their numbers of addresses. All parts but those of the addresses are known, so each number of parameters is an equation
for the number of addresses.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from etalumis.config import NetworkConfig
from etalumis.experiments.tables import markdown_table
from etalumis.figures.numbers import Rows

STEM = "parameters"
TITLE = "Parameters of the paper's networks, and the numbers of addresses that reproduce them"
PAPER_COUNTS = {3_000_000: 156_960_440, 15_000_000: 171_732_688}
"""Parameters of the paper's networks by number of training traces (section 4.3)."""
VOXELS = (20, 35, 35)
EXAMPLE_CATEGORIES = (2, 10, 38)
"""Numbers of categories for which the table says what an address has."""
_KERNEL = 27


@dataclass(frozen=True)
class AddressKind:
    """Addresses with proposals of one shape: `categories` is 0 for a continuous prior."""

    categories: int = 0


CONTINUOUS = AddressKind()


def of_address(network: NetworkConfig, kind: AddressKind) -> dict[str, int]:
    """Return the parameters that one address adds, by part: its embedding, that of its value, and two layers."""
    outputs = kind.categories or 3 * network.mixture_components
    inputs = kind.categories or 1 + 2 * network.value_frequencies
    hidden = (network.lstm_hidden + outputs) // 2
    return {
        "address embedding": network.address_embedding,
        "sample embedding": (inputs + 1) * network.sample_embedding,
        "proposal layers": (network.lstm_hidden + 1) * hidden + (hidden + 1) * outputs,
    }


def of_dense(network: NetworkConfig) -> dict[str, int]:
    """Return the parameters that all traces use, by part, for the paper's 3DCNN without tags and its image."""
    channels = network.conv_channels
    pairs = zip((1, *channels[:-1]), channels, strict=True)
    last = channels[-1] * math.prod(((extent - 4) // 2 - 6) // 2 for extent in VOXELS)
    inputs = network.observation_embedding + network.sample_embedding + 2 * network.address_embedding
    widths = [inputs] + [network.lstm_hidden] * (network.lstm_layers - 1)
    return {
        "convolutions": sum((_KERNEL * before + 1) * after for before, after in pairs),
        "fully connected layer": (last + 1) * network.observation_embedding,
        "LSTM": sum(4 * network.lstm_hidden * (width + network.lstm_hidden + 2) for width in widths),
    }


def count(network: NetworkConfig, addresses: Mapping[AddressKind, int]) -> int:
    """Return the parameters of a network with numbers of addresses by kind."""
    by_address = sum(number * sum(of_address(network, kind).values()) for kind, number in addresses.items())
    return sum(of_dense(network).values()) + by_address


@dataclass(frozen=True)
class Solution:
    """Number of continuous addresses with which a network has nearly some parameters; `missing` is the rest."""

    continuous: int
    missing: int


def nearest(network: NetworkConfig, parameters: int) -> Solution:
    """Return the number of addresses, all continuous, with which a network comes nearest to `parameters`."""
    each = sum(of_address(network, CONTINUOUS).values())
    number = round((parameters - sum(of_dense(network).values())) / each)
    return Solution(number, parameters - count(network, {CONTINUOUS: number}))


def table() -> tuple[str, Rows]:
    """Return the explanation of the paper's numbers in Markdown, and its rows."""
    network = NetworkConfig()
    dense = of_dense(network)
    parts = [(name, "once", f"{number:,}") for name, number in dense.items()]
    for kind in (CONTINUOUS, *map(AddressKind, EXAMPLE_CATEGORIES)):
        what = f"address with {kind.categories} categories" if kind.categories else "address with a continuous prior"
        per_part = of_address(network, kind)
        shown = " + ".join(f"{number:,}" for number in per_part.values())
        parts.append((what, f"{shown} (its embedding, that of its value, two layers)", f"{sum(per_part.values()):,}"))
    rows: list[dict[str, object]] = []
    for traces, parameters in PAPER_COUNTS.items():
        near = nearest(network, parameters)
        rows.append({
            "traces": traces,
            "parameters": parameters,
            "dense": sum(dense.values()),
            "addresses_if_continuous": near.continuous,
            "missing_parameters": near.missing,
        })  # fmt: skip
    keys = ("traces", "parameters", "addresses_if_continuous", "missing_parameters")
    found = [tuple(f"{row[key]:,}" for key in keys) for row in rows]
    text = "\n\n".join([
        f"The paper's network has {sum(dense.values()):,} parameters that all traces use; the rest are of addresses.",
        markdown_table(("part", "how often", "parameters"), parts),
        "With continuous priors only, the paper's networks have this many addresses, up to the last column. What is "
        "left is less than one address: some are categorical, with numbers of categories that the paper does not give.",
        markdown_table(("training traces", "parameters", "addresses", "parameters left"), found),
        "Section 6.4 counts more than 24,000 addresses in the prior. A network with a layer for each would have "
        f"{count(network, {CONTINUOUS: 24_000}) / 1e9:.1f} billion parameters, so most of them had none.",
    ])  # fmt: skip
    return text, rows
