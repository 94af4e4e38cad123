# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The messages of PPX as Python values (SC'19, Section 4.1)."""

from typing import Any, NamedTuple

import numpy as np

from etalumis.distributions import ArrayDistribution, Distribution

Array = np.ndarray[Any, np.dtype[np.float64]]


class Handshake(NamedTuple):
    """Inference side to simulator: who calls."""

    system_name: str


class HandshakeResult(NamedTuple):
    """Simulator to inference side: who answers, and which model it runs."""

    system_name: str
    model_name: str


class Run(NamedTuple):
    """Inference side to simulator: run once."""


class RunResult(NamedTuple):
    """Simulator to inference side: the run has ended; `result` is None where the model returned nothing."""

    result: Array | None


class Sample(NamedTuple):
    """Simulator to inference side: a draw is wanted.

    `shape` is the shape in which the value is expected back, () or (1, ..., 1): PPX 1.0 peers answer in the shape of
    the parameters. `scope` and `repetition` are 0 for peers that do not know them.
    """

    address: str
    distribution: Distribution
    name: str = ""
    control: bool = True
    replace: bool = False
    scope: int = 0
    repetition: int = 0
    shape: tuple[int, ...] = ()


class SampleResult(NamedTuple):
    """Inference side to simulator: the value drawn."""

    result: Array | None


class Observe(NamedTuple):
    """Simulator to inference side: condition on `value`, or, where it is None, on what the user observed."""

    address: str
    distribution: ArrayDistribution
    name: str = ""
    value: Array | None = None


class ObserveResult(NamedTuple):
    """Inference side to simulator: go on."""


class Tag(NamedTuple):
    """Simulator to inference side: remember `value` under `name`."""

    address: str
    name: str
    value: Array


class TagResult(NamedTuple):
    """Inference side to simulator: go on."""


class Reset(NamedTuple):
    """Either side: the run under way is abandoned; also the answer to whatever comes out of turn."""


Message = (
    Handshake
    | HandshakeResult
    | Run
    | RunResult
    | Sample
    | SampleResult
    | Observe
    | ObserveResult
    | Tag
    | TagResult
    | Reset
)

BODIES: tuple[type[Any], ...] = (
    Handshake,
    HandshakeResult,
    Run,
    RunResult,
    Sample,
    SampleResult,
    Observe,
    ObserveResult,
    Tag,
    TagResult,
    Reset,
)
"""The bodies in the order of the union `MessageBody`: the first has number 1."""
