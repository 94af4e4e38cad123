# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Training of the 3DCNN-LSTM."""


rule network:
    """Train the network under MPI; an interrupted training, or one with a larger budget, goes on from its checkpoint."""
    input:
        layers=P.layers,
        train=P.sorted_index("train"),
        valid=P.sorted_index("valid"),
    output:
        manifest=P.network_manifest,
    log:
        P.log("network", "train"),
    benchmark:
        P.benchmark("network", "train")
    conda:
        "../envs/etalumis.yml"
    threads: CONFIG.training.tasks * CONFIG.training.threads_per_task
    resources:
        **request("network", memory="mem_mb_per_cpu", cpus=CONFIG.training.threads_per_task),
        mpi=wiring.MPIEXEC,
        tasks=CONFIG.training.tasks,
        cpus_per_task=CONFIG.training.threads_per_task,
    params:
        config=P.config,
        settings=wiring.training_settings(CONFIG),
        train=subpath(input.train, parent=True),
        valid=subpath(input.valid, parent=True),
        directory=subpath(output.manifest, parent=True),
        launcher=lambda wildcards, resources: wiring.launcher(resources.mpi, resources.cpus_per_task),
    shell:
        "{params.launcher} -n {resources.tasks} etalumis --log {log} network train --config {params.config}"
        " --layers {input.layers} --train {params.train} --valid {params.valid} --output {params.directory}"
        " --world-size {resources.tasks}"
