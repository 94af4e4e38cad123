# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Simulator: pinned Sherpa, driver, calorimeter."""


rule simulator:
    """Download the pinned Sherpa, build the driver, write the configuration of the simulator."""
    input:
        sources=wiring.source_files(
            "src/cpp/CMakeLists.txt",
            "src/cpp/cmake",
            "src/cpp/include",
            "src/cpp/src",
            "src/cpp/sherpa_tau",
            "resources/sherpa",
            "resources/ppx",
            without="src/cpp/sherpa_tau/tests",
        ),
    output:
        binary=P.simulator_binary,
        build=P.simulator_build,
        config=P.simulator_config,
    log:
        P.log("simulator", "build"),
    benchmark:
        P.benchmark("simulator", "build")
    conda:
        "../envs/etalumis.yml"
    threads: 2
    resources:
        **request("simulator"),
    params:
        config=P.config,
        settings=wiring.settings(CONFIG.simulator, "prefix", "noise_gev", "momentum_gev", "calorimeter"),
        directory=subpath(output.build, parent=True),
    shell:
        "etalumis --log {log} simulator build --config {params.config} --output {params.directory}"
