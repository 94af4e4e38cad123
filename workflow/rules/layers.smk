# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Layer table, from which the network is generated before training."""


rule layers:
    """List the controlled addresses of the training traces with their priors, one layer each."""
    input:
        P.sorted_index("train"),
    output:
        P.layers,
    log:
        P.log("layers", "layers"),
    benchmark:
        P.benchmark("layers", "layers")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("layers"),
    shell:
        "etalumis --log {log} layers --input {input} --output {output}"
