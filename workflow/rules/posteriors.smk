# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Posteriors of the latent variables, by several engines."""

from pathlib import Path


rule rmh:
    """Run one chain of random-walk Metropolis-Hastings."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
        observation=P.observation,
    output:
        P.posterior_part("rmh", "{job}"),
    log:
        P.log("posteriors", "rmh-{job}"),
    benchmark:
        P.benchmark("posteriors", "rmh-{job}")
    priority: priority_of("rmh")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("rmh"),
    params:
        config=P.config,
        settings=wiring.engine_settings(CONFIG, "rmh"),
        simulator=subpath(input.build, parent=True),
    shell:
        "etalumis --log {log} posteriors rmh --config {params.config} --simulator {params.simulator}"
        " --observation {input.observation} --chain {wildcards.job} --output {output}"


rule network_rmh:
    """Run one chain of random-walk Metropolis-Hastings that also moves to runs of the network."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
        observation=P.observation,
        network=P.network_manifest,
    output:
        P.posterior_part("network_rmh", "{job}"),
    log:
        P.log("posteriors", "network_rmh-{job}"),
    benchmark:
        P.benchmark("posteriors", "network_rmh-{job}")
    priority: priority_of("network_rmh")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("network_rmh"),
    params:
        config=P.config,
        settings=wiring.engine_settings(CONFIG, "network_rmh"),
        simulator=subpath(input.build, parent=True),
        network=subpath(input.network, parent=True),
    shell:
        "etalumis --log {log} posteriors network_rmh --config {params.config} --simulator {params.simulator}"
        " --observation {input.observation} --network {params.network} --chain {wildcards.job} --output {output}"


rule ic:
    """Run one job of inference compilation: importance sampling with the network's proposals."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
        observation=P.observation,
        network=P.network_manifest,
    output:
        P.posterior_part("ic", "{job}"),
    log:
        P.log("posteriors", "ic-{job}"),
    benchmark:
        P.benchmark("posteriors", "ic-{job}")
    priority: priority_of("ic")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("ic"),
    params:
        config=P.config,
        settings=wiring.engine_settings(CONFIG, "ic"),
        simulator=subpath(input.build, parent=True),
        network=subpath(input.network, parent=True),
    shell:
        "etalumis --log {log} posteriors ic --config {params.config} --simulator {params.simulator}"
        " --observation {input.observation} --network {params.network} --job {wildcards.job} --output {output}"


rule smc:
    """Run one job of tempered sequential Monte Carlo, from runs of the network or of the prior."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
        observation=P.observation,
        network=[P.network_manifest] if CONFIG.posteriors.smc.start == "network" else [],
    output:
        P.posterior_part("smc", "{job}"),
    log:
        P.log("posteriors", "smc-{job}"),
    benchmark:
        P.benchmark("posteriors", "smc-{job}")
    priority: priority_of("smc")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("smc"),
    params:
        config=P.config,
        settings=wiring.engine_settings(CONFIG, "smc"),
        simulator=subpath(input.build, parent=True),
        network=lambda wildcards, input: f" --network {Path(input.network[0]).parent}" if input.network else "",
    shell:
        "etalumis --log {log} posteriors smc --config {params.config} --simulator {params.simulator}"
        " --observation {input.observation}{params.network} --job {wildcards.job} --output {output}"


rule importance:
    """Run one job of importance sampling from the prior."""
    input:
        build=P.simulator_build,
        simulator=P.simulator_config,
        observation=P.observation,
    output:
        P.posterior_part("importance", "{job}"),
    log:
        P.log("posteriors", "importance-{job}"),
    benchmark:
        P.benchmark("posteriors", "importance-{job}")
    priority: priority_of("importance")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("importance"),
    params:
        config=P.config,
        settings=wiring.engine_settings(CONFIG, "importance"),
        simulator=subpath(input.build, parent=True),
    shell:
        "etalumis --log {log} posteriors importance --config {params.config} --simulator {params.simulator}"
        " --observation {input.observation} --job {wildcards.job} --output {output}"


rule gather:
    """Join the chains or jobs of one engine into one posterior."""
    input:
        lambda wildcards: wiring.posterior_files(P, CONFIG, wildcards.engine),
    output:
        P.posterior("{engine}"),
    log:
        P.log("posteriors", "{engine}"),
    benchmark:
        P.benchmark("posteriors", "{engine}")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("gather"),
    shell:
        "etalumis --log {log} posteriors gather --input {input} --output {output}"


rule posteriors:
    """The posteriors of all engines."""
    input:
        [P.posterior(engine) for engine in ENGINES],
