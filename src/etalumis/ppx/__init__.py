# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""PPX, the probabilistic execution protocol: simulators in any language as models (SC'19, Section 4.1).

`Simulator` starts, watches and ends a simulator's process; `connect` talks to one that is already running; `Pool` runs
several processes, forked from one. `messages`, `encode` and `decode` are the wire format; `generated` is the
reference code written by flatc.
"""

from etalumis.ppx.pool import Pool
from etalumis.ppx.simulator import Simulator, connect

__all__ = ["Pool", "Simulator", "connect"]
