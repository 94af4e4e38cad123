# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Completion of a run with draws from the prior: the only way to end a run of a PPX 1.0 peer."""

import time

import numpy as np

from etalumis.errors import RefusedError, SimulatorError
from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import encode
from etalumis.ppx.messages import Message, Observe, ObserveResult, Sample, SampleResult, Tag, TagResult
from etalumis.ppx.session import Ask

_OBSERVE_RESULT = encode(ObserveResult())
_TAG_RESULT = encode(TagResult())


def finish_run(statement: Message | None, ask: Ask, decoder: Decoder, deadline: float) -> Message:
    """Complete a run with draws from the prior; return the first message that is not a statement.

    A run of a PPX 1.0 peer cannot be ended in another way: the public C++ peer ends its process if a Sample is not
    answered with a SampleResult, and accepts any message as the answer to other statements.

    Parameters
    ----------
    statement
        The statement to answer first. If it is None, a value is sent: a peer in a run accepts it as the answer to any
        statement, and a peer outside a run answers with Reset.
    ask
        Sends an answer and returns the next message.
    decoder
        Has the shape of the value of a refused statement.
    deadline
        When to give up, in the time of `time.monotonic`.

    Raises
    ------
    SimulatorError
        If the run does not end before the deadline.
    """
    rng = np.random.Generator(np.random.PCG64(0))  # the run is discarded, but a rejection loop needs random values
    message = statement
    while True:
        if time.monotonic() > deadline:
            raise SimulatorError("did not complete the run of an earlier client in time")
        try:
            if message is None:
                message = ask(encode(SampleResult(np.full(decoder.refused_shape, 0.5))))
            elif isinstance(message, Sample):
                message = ask(encode(SampleResult(np.reshape(message.distribution.sample(rng), message.shape))))
            elif isinstance(message, Observe):
                message = ask(_OBSERVE_RESULT)
            elif isinstance(message, Tag):
                message = ask(_TAG_RESULT)
            else:
                return message
        except RefusedError:  # no prior to draw from
            message = None
