# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Figures, with captions that contain the numbers."""


rule figures:
    """Draw figures 7 and 8 of the paper, the chains, the traces and the observation."""
    input:
        diagnostics=P.diagnostics,
        posteriors=[P.posterior(engine) for engine in ENGINES],
        network=P.network_manifest,
        build=P.simulator_build,
        traces=wiring.prior_traces(P, CONFIG),
        observation=P.observation,
    output:
        **{
            name: report(
                P.figure(name),
                caption=f"../report/{name}.rst",
                category=entry.category,
                labels={"figure": entry.title},
            )
            for name, entry in FIGURES.items()
        },
        captions=[P.figure(name, suffix) for name in FIGURES for suffix in ("md", "rst")],
        numbers=[P.figure(name, "csv") for name in FIGURES_WITH_NUMBERS],
        summary=[P.summary(suffix) for suffix in ("md", "rst")],
        others=[
            P.figure(name, suffix) for name in FIGURES for suffix in wiring.figure_formats(CONFIG) if suffix != "png"
        ],
    log:
        P.log("figures", "figures"),
    benchmark:
        P.benchmark("figures", "figures")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("figures"),
    params:
        config=P.config,
        formats=wiring.figure_formats(CONFIG),
        network=subpath(input.network, parent=True),
        simulator=subpath(input.build, parent=True),
        directory=subpath(output.figure8_posteriors, parent=True),
    shell:
        "etalumis --log {log} figures --config {params.config} --posteriors {input.posteriors}"
        " --diagnostics {input.diagnostics} --network {params.network} --traces {input.traces}"
        " --observation {input.observation} --simulator {params.simulator} --output {params.directory}"
        " --format {params.formats}"


for name in FIGURES:

    # a target for each figure, as in experiments.smk, although one job draws all figures of a run
    rule:
        name:
            figure_target(name)
        input:
            P.figure(name),
        localrule: True


rule report:
    """Write the report: the story of the run on one HTML page."""
    input:
        figures=[P.figure(name, suffix) for name in FIGURES for suffix in ("png", "md")],
        diagnostics=P.diagnostics,
        network=P.network_manifest,
        build=P.simulator_build,
    output:
        P.report,
    log:
        P.log("figures", "report"),
    benchmark:
        P.benchmark("figures", "report")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("report"),
    params:
        run=P.root,
    shell:
        "etalumis --log {log} report --run {params.run} --output {output}"
