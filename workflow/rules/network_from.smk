# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The network of another run, in place of training."""


rule network:
    """Use the network of `network.from`."""
    input:
        P.network_manifest,
    localrule: True
