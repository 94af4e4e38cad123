# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Diagnostics of the posteriors."""


rule diagnostics:
    """Compute R-hat, ESS, k-hat and the agreement of the engines, with verdicts in words."""
    input:
        posteriors=[P.posterior(engine) for engine in ENGINES],
        network=P.network_manifest,
    output:
        P.diagnostics,
    log:
        P.log("diagnostics", "diagnostics"),
    benchmark:
        P.benchmark("diagnostics", "diagnostics")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("diagnostics"),
    params:
        config=P.config,
        network=subpath(input.network, parent=True),
    shell:
        "etalumis --log {log} diagnostics --config {params.config} --posteriors {input.posteriors}"
        " --network {params.network} --output {output}"
