# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posteriors of many test decays, in one table."""

from pathlib import Path

INFERENCE_OPTIONS = wiring.inference_options(CONFIG)


rule infer:
    """Infer traces of the test split with one engine; an interrupted job resumes from the records beside the table."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
        traces=wiring.trace_files(P, CONFIG, "test"),
        network=[P.network_manifest] if wiring.needs_network(CONFIG) else [],
    output:
        P.inference_table,
    log:
        P.log("inferences", "infer"),
    benchmark:
        P.benchmark("inferences", "infer")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("infer"),
    params:
        config=P.config,
        # functions, since Snakemake would read braces in a text as wildcards
        settings=lambda wildcards: wiring.inference_settings(CONFIG),
        options=lambda wildcards: INFERENCE_OPTIONS,
        simulator=subpath(input.build, parent=True),
        network=lambda wildcards, input: f" --network {Path(input.network[0]).parent}" if input.network else "",
    shell:
        "etalumis --log {log} infer --config {params.config} --simulator {params.simulator}{params.network}"
        " --traces {input.traces} {params.options:q} --output {output}"
