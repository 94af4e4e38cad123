# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces sorted by type and length."""


rule sort:
    """Sort a split by trace type and length into shards, in parallel under MPI."""
    input:
        lambda wildcards: wiring.trace_files(P, CONFIG, wildcards.split),
    output:
        index=P.sorted_index("{split}"),
    log:
        P.log("sorted", "{split}"),
    benchmark:
        P.benchmark("sorted", "{split}")
    conda:
        "../envs/etalumis.yml"
    threads: CONFIG.sorted.tasks
    resources:
        **request("sort", memory="mem_mb_per_cpu"),
        mpi=wiring.MPIEXEC,
        tasks=CONFIG.sorted.tasks,
        cpus_per_task=1,
    params:
        config=P.config,
        settings={"shard_traces": CONFIG.traces.shard_traces},
        directory=subpath(output.index, parent=True),
    shell:
        "{resources.mpi} -n {resources.tasks} etalumis --log {log} traces sort --config {params.config}"
        " --input {input} --output {params.directory} --world-size {resources.tasks}"


rule sorted:
    """The sorted splits."""
    input:
        [P.sorted_index(split) for split in SORTED_SPLITS],


rule verify:
    """Verify the sorted splits: checksums, order, and types and log priors against the entries."""
    input:
        [P.sorted_index(split) for split in SORTED_SPLITS],
    output:
        touch(P.verified),
    log:
        P.log("sorted", "verify"),
    benchmark:
        P.benchmark("sorted", "verify")
    conda:
        "../envs/etalumis.yml"
    threads: 1
    resources:
        **request("verify"),
    shell:
        "etalumis --log {log} traces verify {input}"
