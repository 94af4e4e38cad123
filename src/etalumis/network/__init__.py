# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The 3DCNN-LSTM, a proposal for controlled entries: token-parallel in training, sequential in inference."""

from etalumis.network.model import ProposalNetwork
from etalumis.network.proposal_session import ProposalSession

__all__ = ["ProposalNetwork", "ProposalSession"]
