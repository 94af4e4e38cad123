# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Errors of a conversation, with details of the simulator and advice."""

from etalumis.errors import EtalumisError, ProtocolError, RefusedError, SimulatorError
from etalumis.ppx.connection import PeerAbsent, PeerSilent, more_time
from etalumis.ppx.session import Conversation, ModelFailed, RequestRefused, SessionLost


def explain(
    error: SimulatorError | ProtocolError | RefusedError,
    name: str,
    session: Conversation,
    about: str | None,
    endpoint: str,
) -> EtalumisError:
    """Return an error with details of the simulator.

    Parameters
    ----------
    name
        Name of the simulator.
    session
        The session; gives the position in the conversation.
    about
        Report on a process that was started here; None for a simulator that another program started.
    endpoint
        Endpoint of such a simulator.
    """
    details = about if about is not None else f"  endpoint: {endpoint}"
    simulator, where = f"the simulator {name}", session.where()
    if isinstance(error, RefusedError):
        return RefusedError(f"{simulator} {session.where(statement=True)}: {error}\n{details}")
    if isinstance(error, RequestRefused):
        kind = ProtocolError if session.pending > 1 else RefusedError
        return kind(f"{simulator} refused a run {where}\n{details}\n  {error}")
    if isinstance(error, ModelFailed):
        return RefusedError(f"{simulator} stopped {where}\n{details}\n  {error}")
    if isinstance(error, ProtocolError):
        return ProtocolError(f"{simulator} sent an invalid message {where}\n{details}\n  {error}")
    what = str(error) if isinstance(error, PeerAbsent) else f"{error} {where}"
    return SimulatorError(f"{simulator} {what}\n{details}{_advice(error, session, started_here=about is not None)}")


def _advice(error: SimulatorError, session: Conversation, *, started_here: bool) -> str:
    if isinstance(error, SessionLost):
        return "\n  another client may have connected to it. Use one simulator for each client."
    if isinstance(error, PeerAbsent):
        return "\n  start it first, or correct the endpoint; start_timeout_s is the time to wait for it"
    if isinstance(error, PeerSilent):
        return more_time("timeout_s" if session.runs else "start_timeout_s")
    return "" if started_here else "\n  it was not started here, so it is not restarted: start it again"
