# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces from the prior, and the observation, one of the held-out traces."""


rule generate:
    """Run the simulator from its prior and record every draw, in one of the jobs of a split."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
    output:
        P.traces("{split}", "{part}"),
    log:
        P.log("traces", "{split}-{part}"),
    benchmark:
        P.benchmark("traces", "{split}-{part}")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("generate"),
    params:
        config=P.config,
        settings=lambda wildcards: wiring.trace_settings(CONFIG, wildcards.split),
        simulator=subpath(input.build, parent=True),
    shell:
        "etalumis --log {log} traces generate --config {params.config} --simulator {params.simulator}"
        " --split {wildcards.split} --part {wildcards.part} --output {output}"


rule traces:
    """All traces of all splits."""
    input:
        [wiring.trace_files(P, CONFIG, split) for split in SPLITS],


rule observation:
    """Take a held-out trace as the observation: add detector noise and store the truth."""
    input:
        wiring.trace_files(P, CONFIG, "test"),
    output:
        P.observation,
    log:
        P.log("traces", "observation"),
    benchmark:
        P.benchmark("traces", "observation")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("observation"),
    params:
        settings=wiring.settings(CONFIG.observation),
        # a function, since Snakemake would read braces in a text as wildcards
        name=lambda wildcards: [f"--name={CONFIG.observation.name}"] if CONFIG.observation.name else [],
    shell:
        "etalumis --log {log} traces observation --input {input} --trace {params.settings[trace]}"
        " {params.name:q} --seed {params.settings[seed]} --output {output}"
