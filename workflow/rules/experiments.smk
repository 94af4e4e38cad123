# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figures and tables of the paper that compare settings, seeds and ranks; not part of `all`."""

from etalumis.experiments import variants

# a training whose time is measured has the cores of its largest sibling, so that no other job shares them
MEASURING_THREADS = max(CONFIG.experiments.ranks)


rule experiment_training:
    """Train one network of the experiments on one rank."""
    input:
        layers=P.layers,
        train=P.sorted_index("train"),
        valid=P.sorted_index("valid"),
    output:
        manifest=P.experiment_training("{name}"),
    log:
        P.log("experiments", "{name}"),
    benchmark:
        P.benchmark("experiments", "{name}")
    wildcard_constraints:
        name=r"stacks[\w-]+|minibatch\d+-rate[\d.e-]+|(adam|sgd)\w*-\w+|seed\d+|(paper-)?ranks1|timing-minibatch\d+",
    conda:
        "../envs/etalumis.yml"
    threads: lambda wildcards: MEASURING_THREADS if variants.is_timed(wildcards.name) else 1
    resources:
        **request("experiment_training"),
    params:
        config=P.config,
        settings=lambda wildcards: wiring.training_settings(variants.settings_of(CONFIG, wildcards.name)),
        train=subpath(input.train, parent=True),
        valid=subpath(input.valid, parent=True),
        directory=subpath(output.manifest, parent=True),
    shell:
        "etalumis --log {log} experiments train {wildcards.name} --config {params.config} --layers {input.layers}"
        " --train {params.train} --valid {params.valid} --output {params.directory}"


rule experiment_ranks:
    """Train one network of the experiments on several ranks."""
    input:
        layers=P.layers,
        train=P.sorted_index("train"),
        valid=P.sorted_index("valid"),
    output:
        manifest=P.experiment_training("{kind}ranks{ranks}"),
    log:
        P.log("experiments", "{kind}ranks{ranks}"),
    benchmark:
        P.benchmark("experiments", "{kind}ranks{ranks}")
    wildcard_constraints:
        kind="|paper-",
        ranks=r"[2-9]|[1-9]\d+",
    conda:
        "../envs/etalumis.yml"
    threads: MEASURING_THREADS
    resources:
        **request("experiment_ranks", memory="mem_mb_per_cpu"),
        mpi=wiring.MPIEXEC,
        tasks=lambda wildcards: int(wildcards.ranks),
        nodes=1,  # python -m etalumis.mpiexec starts all ranks on one
        cpus_per_task=1,
    params:
        config=P.config,
        settings=lambda wildcards: wiring.training_settings(
            variants.settings_of(CONFIG, f"{wildcards.kind}ranks{wildcards.ranks}")
        ),
        train=subpath(input.train, parent=True),
        valid=subpath(input.valid, parent=True),
        directory=subpath(output.manifest, parent=True),
    shell:
        "{resources.mpi} -n {resources.tasks} etalumis --log {log} experiments train"
        " {wildcards.kind}ranks{wildcards.ranks} --config {params.config} --layers {input.layers}"
        " --train {params.train} --valid {params.valid} --output {params.directory}"


rule figure2:
    """Draw the loss curves of architectures (figure 2 of the paper)."""
    input:
        [P.experiment_training(name) for name in variants.grid_names(CONFIG)],
    output:
        [P.paper_figure("figure2", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "figure2"),
    benchmark:
        P.benchmark("experiments", "figure2")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("figure2"),
    params:
        trainings=wiring.training_folders(P, variants.grid_names(CONFIG)),
        formats=wiring.figure_formats(CONFIG),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments figure2 --trainings {params.trainings} --output {params.directory}"
        " --format {params.formats}"


rule figure3:
    """Draw the proposals of the network along the trace of the observation (figure 3 of the paper)."""
    input:
        network=P.network_manifest,
        observation=P.observation,
        traces=P.traces("test", 0),
        build=P.simulator_build,
    output:
        [P.paper_figure("figure3", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "figure3"),
    benchmark:
        P.benchmark("experiments", "figure3")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("figure3"),
    params:
        formats=wiring.figure_formats(CONFIG),
        network=subpath(input.network, parent=True),
        simulator=subpath(input.build, parent=True),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments figure3 --network {params.network} --observation {input.observation}"
        " --traces {input.traces} --simulator {params.simulator} --output {params.directory}"
        " --format {params.formats}"


rule figure5:
    """Draw the loss of several trainings with different seeds (figure 5 of the paper)."""
    input:
        [P.experiment_training(name) for name in variants.seed_names(CONFIG)],
    output:
        [P.paper_figure("figure5", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "figure5"),
    benchmark:
        P.benchmark("experiments", "figure5")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("figure5"),
    params:
        trainings=wiring.training_folders(P, variants.seed_names(CONFIG)),
        formats=wiring.figure_formats(CONFIG),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments figure5 --trainings {params.trainings} --output {params.directory}"
        " --format {params.formats}"


rule learning_rates:
    """Draw the loss by learning rate and minibatch (section 6.3 of the paper)."""
    input:
        [P.experiment_training(name) for name in variants.rate_names(CONFIG)],
    output:
        [P.paper_figure("learning_rates", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "learning_rates"),
    benchmark:
        P.benchmark("experiments", "learning_rates")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("learning_rates"),
    params:
        trainings=wiring.training_folders(P, variants.rate_names(CONFIG)),
        formats=wiring.figure_formats(CONFIG),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments learning_rates --trainings {params.trainings} --output {params.directory}"
        " --format {params.formats}"


rule optimizers:
    """Draw the loss of optimizers and schedules (section 7.1.2 of the paper)."""
    input:
        [P.experiment_training(name) for name in variants.optimizer_names(CONFIG)],
    output:
        [P.paper_figure("optimizers", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "optimizers"),
    benchmark:
        P.benchmark("experiments", "optimizers")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("optimizers"),
    params:
        trainings=wiring.training_folders(P, variants.optimizer_names(CONFIG)),
        formats=wiring.figure_formats(CONFIG),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments optimizers --trainings {params.trainings} --output {params.directory}"
        " --format {params.formats}"


rule figure4:
    """Draw the time by phase for several numbers of ranks (figure 4 of the paper)."""
    input:
        [P.experiment_training(name) for name in variants.rank_names(CONFIG)],
    output:
        [P.paper_figure("figure4", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "figure4"),
    benchmark:
        P.benchmark("experiments", "figure4")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("figure4"),
    params:
        trainings=wiring.training_folders(P, variants.rank_names(CONFIG)),
        formats=wiring.figure_formats(CONFIG),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments figure4 --trainings {params.trainings} --output {params.directory}"
        " --format {params.formats}"


rule figure6:
    """Draw the measured and the simulated weak scaling (figure 6 of the paper)."""
    input:
        trainings=[P.experiment_training(name) for name in variants.rank_names(CONFIG)],
        sizes=[P.experiment_training(name) for name in variants.timing_names(CONFIG)],
        train=P.sorted_index("train"),
        layers=P.layers,
    output:
        [P.paper_figure("figure6", suffix) for suffix in ("csv", "md", "rst", *wiring.figure_formats(CONFIG))],
    log:
        P.log("experiments", "figure6"),
    benchmark:
        P.benchmark("experiments", "figure6")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("figure6"),
    params:
        config=P.config,
        settings={
            "seed": CONFIG.run.seed,
            **wiring.settings(CONFIG.experiments, "network_latency_us", "network_gb_per_s"),
        },
        trainings=wiring.training_folders(P, variants.rank_names(CONFIG)),
        sizes=wiring.training_folders(P, variants.timing_names(CONFIG)),
        formats=wiring.figure_formats(CONFIG),
        train=subpath(input.train, parent=True),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments figure6 --config {params.config} --trainings {params.trainings}"
        " --sizes {params.sizes} --train {params.train} --layers {input.layers} --output {params.directory} --format {params.formats}"


rule tables:
    """Write tables 1 and 2 of the paper with this machine, and explain the paper's numbers of parameters."""
    input:
        [P.experiment_training(name) for name in variants.paper_rank_names(CONFIG)],
    output:
        [P.paper_table(stem, suffix) for stem in PAPER_TABLES for suffix in ("md", "csv")],
    log:
        P.log("experiments", "tables"),
    benchmark:
        P.benchmark("experiments", "tables")
    conda:
        "../envs/etalumis.yml"
    threads: MEASURING_THREADS
    resources:
        **request("tables"),
    params:
        trainings=wiring.training_folders(P, variants.paper_rank_names(CONFIG)),
        directory=subpath(output[0], parent=True),
    shell:
        "etalumis --log {log} experiments tables --trainings {params.trainings} --output {params.directory}"


rule statements:
    """Measure what the paper says in words about speed."""
    input:
        layers=P.layers,
        train=P.sorted_index("train"),
        network=P.network_manifest,
        diagnostics=P.diagnostics,
    output:
        table=P.paper_table(STATEMENTS),
        numbers=P.paper_table(STATEMENTS, "csv"),
    log:
        P.log("experiments", "statements"),
    benchmark:
        P.benchmark("experiments", "statements")
    conda:
        "../envs/etalumis.yml"
    threads: MEASURING_THREADS
    resources:
        **request("statements", memory="mem_mb_per_cpu"),
        mpi=wiring.MPIEXEC,
        tasks=2,
        nodes=1,  # python -m etalumis.mpiexec starts all ranks on one
        cpus_per_task=1,
    params:
        config=P.config,
        settings=wiring.training_settings(CONFIG),
        network=subpath(input.network, parent=True),
        train=subpath(input.train, parent=True),
        directory=subpath(output.table, parent=True),
    shell:
        "{resources.mpi} -n {resources.tasks} etalumis --log {log} experiments statements --config {params.config}"
        " --layers {input.layers} --train {params.train} --network {params.network}"
        " --diagnostics {input.diagnostics} --output {params.directory}"


rule paper_figures:
    """Figures and tables of the paper."""
    input:
        [P.figure(name) for name in ("figure7_loss", "figure8_posteriors")],
        [P.paper_figure(target) for target in PAPER_FIGURES],
        [P.paper_table(stem) for stem in (*PAPER_TABLES, STATEMENTS)],
