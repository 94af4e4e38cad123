# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Models written in Python, with the same statements as C++ simulators.

Any function that draws with `sample`, states its likelihood with `observe` and records values with `tag` is a model::

    from etalumis.distributions import Normal
    from etalumis.models import FunctionModel, observe, sample

    def forward():
        mu = sample(Normal(1.0, 5**0.5), name="mu")
        observe(Normal(mu, 2**0.5), "obs0")
        return mu

    model = FunctionModel(forward)
"""

from etalumis.models.frontend import FunctionModel, RejectionScope, observe, rejection_scope, sample, tag

__all__ = ["FunctionModel", "RejectionScope", "observe", "rejection_scope", "sample", "tag"]
