# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The jobs of the workflow, from dry runs."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dag.conftest import DryProject
from projects import extremes, load_script

from etalumis.cli import main
from etalumis.config import Config, from_mapping, load, read, to_yaml
from etalumis.errors import ConfigError
from etalumis.paths import FIGURES, PAPER_FIGURES, STAGES, Paths, figure_target
from etalumis.workflow import posterior_files, read_config, trace_files

DEMO = {
    "simulator": 1,
    "generate": 4,
    "observation": 1,
    "sort": 2,
    "verify": 1,
    "layers": 1,
    "network": 1,
    "rmh": 2,
    "network_rmh": 2,
    "ic": 2,
    "smc": 2,
    "gather": 4,
    "diagnostics": 1,
    "figures": 1,
    "report": 1,
}


def test_the_demo_has_these_jobs(project: DryProject) -> None:
    assert project.jobs() == DEMO


@pytest.mark.parametrize("name", ["test", "paper"])
def test_the_other_configurations_have_the_configured_numbers_of_jobs(
    project: DryProject, checkout: Path, name: str
) -> None:
    config = load(checkout / "config" / f"{name}.yaml")
    scattered = {
        "generate": config.traces.jobs + 2,
        "rmh": config.posteriors.rmh.chains,
        "ic": config.posteriors.ic.jobs,
        "smc": config.posteriors.smc.jobs,
        "gather": len(config.posteriors.engines),
    }
    absent = set(DEMO) & {"network_rmh", "smc", "ic", "rmh"} - set(config.posteriors.engines)
    expected = {job: count for job, count in (DEMO | scattered).items() if job not in absent}
    assert project.jobs("--configfile", f"config/{name}.yaml") == expected


def test_the_figures_of_the_paper_have_a_job_for_each_training(project: DryProject, checkout: Path) -> None:
    config = load(checkout / "config" / "test.yaml")
    words = ["paper_figures", "--configfile", "config/test.yaml"]
    jobs = project.jobs(*words)
    section = config.experiments
    grid = len(section.lstm_layers) * len(section.lstm_hidden) * len(section.mixture_components)
    assert section.ranks == (1, 2)
    compared = len(section.minibatches) * len(section.learning_rates) + len(section.optimizers) * len(section.schedules)
    assert jobs["experiment_training"] == grid + compared + section.seeds + 4
    assert jobs["experiment_ranks"] == 2
    assert {jobs[name] for name in (*PAPER_FIGURES, "tables", "statements", "figures")} == {1}
    lines = [
        line
        for line in project.snakemake("--dry-run", *words).stdout.splitlines()
        if line.startswith("Shell command: ")
    ]
    call = re.compile(r"Shell command: (None|(python -m etalumis.mpiexec -n \d+ )?etalumis --log )")
    assert [line for line in lines if not call.match(line)] == []
    (two,) = [line for line in lines if " experiments train paper-ranks2 " in line]
    assert "python -m etalumis.mpiexec -n 2 etalumis" in two


def test_of_the_engines_the_longest_jobs_start_first(project: DryProject) -> None:
    def in_order(*words: str) -> list[str]:
        shown = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    priority: (\d+)$", project.dry_run(*words), re.MULTILINE)
        priorities = {rule: int(priority) for rule, priority in shown}
        return sorted(priorities, key=priorities.__getitem__, reverse=True)

    assert in_order() == ["network_rmh", "smc", "rmh", "ic"]
    assert in_order("--config", "posteriors={network_rmh: {runs: 1000}}") == ["smc", "rmh", "ic", "network_rmh"]


def test_a_dry_run_writes_no_results(project: DryProject) -> None:
    project.jobs()
    assert not (project.root / "results").exists()


def test_the_literal_slurm_profile(project: DryProject) -> None:
    done = project.snakemake("--profile", "slurm", "--dry-run", "--verbose")
    assert done.returncode == 0, done.stdout
    assert "Using profiles slurm" in done.stdout or "Using profile slurm" in done.stdout
    # the two MPI rules start their ranks through SLURM, with their number
    assert len(re.findall(r"srun --mpi=pmi2 (?:--cpus-per-task=1 )?-n 2 etalumis", done.stdout)) == 3
    assert "mpiexec" not in done.stdout.partition("Shell command")[2]
    assert "slurm_partition=short" in done.stdout


@pytest.mark.parametrize("profile", ["slurm", "profiles/cpu-site", "profiles/gpu-site"])
def test_srun_gives_each_rank_of_the_training_its_cpus(project: DryProject, checkout: Path, profile: str) -> None:
    site = yaml.safe_load((checkout / profile / "config.yaml").read_text(encoding="utf-8"))
    launcher = site["set-resources"]["network"]["mpi"].strip("'")
    assert launcher.startswith("srun --mpi=")
    output = project.dry_run("--profile", profile, "network", "--config", "training={tasks: 3, threads_per_task: 4}")
    assert f"Shell command: {launcher} --cpus-per-task=4 -n 3 etalumis --log " in output


@pytest.mark.parametrize(("name", "sort_mb", "network_mb"), [("config", 1500, 2400), ("paper", 2900, 350)])
def test_the_mpi_rules_request_memory_per_rank_from_slurm(
    project: DryProject, name: str, sort_mb: int, network_mb: int
) -> None:
    """The executor takes `mem_mb` as memory per node, and prefers `mem_mb_per_cpu`, which the MPI rules set."""
    done = project.snakemake("--profile", "slurm", "--dry-run", "--configfile", f"config/{name}.yaml")
    assert done.returncode == 0, done.stdout
    for rule, expected in (("sort", sort_mb), ("network", network_mb)):
        requests = []
        for job in done.stdout.split(f"rule {rule}:")[1:]:  # one for each split, in any order
            resources = next(line for line in job.splitlines() if line.strip().startswith("resources:"))
            names, numbers = zip(*re.findall(r"\b(mem_mb\w*)=(\d+)", resources), strict=True)
            assert names == ("mem_mb", "mem_mb_per_cpu")
            assert numbers[0] == "2000"  # the default of the profile
            requests.append(int(numbers[1]))
        assert max(requests) == expected


def test_one_machine_uses_mpiexec_and_counts_its_cores(project: DryProject) -> None:
    done = project.snakemake("--dry-run", "--cores", "2")
    training = next(line for line in done.stdout.splitlines() if "network train" in line)
    assert re.search(r"python -m etalumis.mpiexec -n 2 etalumis .* --world-size 2$", training)
    assert "threads: 2" in done.stdout.partition("rule network:")[2].partition("rule ")[0]


@pytest.mark.parametrize(
    ("target", "jobs"),
    [
        ("simulator", {"simulator": 1}),
        ("traces", {"simulator": 1, "generate": 4}),
        ("sorted", {"simulator": 1, "generate": 3, "sort": 2}),
        ("layers", {"simulator": 1, "generate": 2, "sort": 1, "layers": 1}),
        ("results/demo/posteriors/rmh-01.h5", {"simulator": 1, "generate": 1, "observation": 1, "rmh": 1}),
        ("results/demo/traces/valid-000.h5", {"simulator": 1, "generate": 1}),
        ("infer", {"simulator": 1, "generate": 4, "sort": 2, "layers": 1, "network": 1, "infer": 1}),
    ],
)
def test_targets_by_rule_and_by_file(project: DryProject, target: str, jobs: dict[str, int]) -> None:
    assert project.jobs(target) == jobs


def test_every_stage_is_a_target(made: DryProject) -> None:
    assert made.jobs(*STAGES) == {}


def test_each_shell_line_is_one_etalumis_call(project: DryProject) -> None:
    done = project.snakemake("--dry-run")
    lines = [line for line in done.stdout.splitlines() if line.startswith("Shell command: ") and "None" not in line]
    assert len(lines) == sum(DEMO.values())
    assert [
        line
        for line in lines
        if not re.match(r"Shell command: (python -m etalumis.mpiexec -n \d+ )?etalumis --log ", line)
    ] == []


def write_network(root: Path, folder: str) -> None:
    """Write the manifest of a trained network, which is all that Snakemake looks at."""
    (root / folder).mkdir(parents=True)
    (root / folder / "manifest.json").write_text("{}\n", encoding="utf-8")


def test_each_figure_of_a_run_has_its_name_as_target(project: DryProject) -> None:
    jobs = project.jobs(*map(figure_target, FIGURES))
    assert jobs["figures"] == 1
    assert "report" not in jobs


def test_the_harder_decay_has_the_network_of_the_demo(project: DryProject) -> None:
    write_network(project.root, "results/demo/network")
    jobs = project.jobs("--configfile", "config/hard.yaml")
    assert jobs == {
        **dict.fromkeys(("simulator", "generate", "observation", "diagnostics", "figures", "report"), 1),
        **dict.fromkeys(("ic", "smc", "gather"), 2),
    }


def test_the_network_of_another_run_replaces_training_and_its_traces(project: DryProject) -> None:
    write_network(project.root, "results/demo/network")
    words = ["--config", "run={name: second}", "network={from: results/demo/network}"]
    done = project.snakemake("--dry-run", *words)
    assert done.returncode == 0, done.stdout
    no_training = {"sort", "verify", "layers", "network"}
    assert project.jobs(*words) == {rule: n for rule, n in DEMO.items() if rule not in no_training} | {"generate": 1}
    assert "is used as it is: no training traces are generated and nothing is trained" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("Shell command: ")]
    readers = [line for line in lines if "--network" in line]
    assert len(readers) == 8  # two jobs of network_rmh, of ic and of smc, diagnostics, figures
    assert all("--network results/demo/network " in line for line in readers)
    (figures,) = [line for line in lines if " figures --config " in line]
    assert "--traces results/second/traces/test-000.h5 " in figures
    assert not any("results/demo/" in line.partition("--output")[2] for line in lines)
    assert project.jobs("network", *words) == {}


def test_a_changed_budget_of_training_reruns_nothing_with_the_network_of_another_run(project: DryProject) -> None:
    write_network(project.root, "trained")
    words = ["--config", "network={from: trained, lstm_hidden: 7}", "training={max_minutes: 1}"]
    project.pretend_complete("--config", "network={from: trained}")
    assert project.jobs(*words) == {}
    again = project.jobs()  # without the key: train a network, and use it
    assert {rule: again.get(rule) for rule in ("sort", "network", "rmh", "ic")} == {
        "sort": 2, "network": 1, "rmh": None, "ic": 2,
    }  # fmt: skip
    assert "trained" not in {path.name for path in project.demo.root.iterdir()}


def test_a_missing_network_of_another_run_stops_before_any_job(project: DryProject) -> None:
    done = project.snakemake("--dry-run", "--config", "network={from: results/none/network}")
    assert done.returncode != 0
    assert "network.from: expected the folder of a trained network, found no manifest.json in" in done.stdout
    assert "results/none/network" in done.stdout


def test_the_workflow_lints(project: DryProject) -> None:
    done = project.snakemake("--lint")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("training={max_minuts: 3}", ["training.max_minuts", "training.max_minutes", "write for instance"]),
        ("traces={train: 0}", ["traces.train: expected integer ≥ 1", "write for instance"]),
    ],
)
def test_a_wrong_configuration_stops_before_any_job(project: DryProject, given: str, parts: list[str]) -> None:
    done = project.snakemake("--dry-run", "--config", given)
    assert done.returncode != 0
    assert all(part in done.stdout for part in parts), done.stdout


@pytest.mark.parametrize(
    ("files", "sections"),
    [
        ([], []),
        ([], ["run={name: second, seed: 2}"]),
        (["more.yaml"], []),
        (["config/test.yaml", "more.yaml"], ["training={max_traces: null}", "posteriors={rmh: {thin: 2}}"]),
        ([], ["training={max_traces: 1000000, max_minutes: null}"]),
    ],
)
def test_the_dag_uses_what_config_show_prints(
    project: DryProject,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: list[str],
    sections: list[str],
) -> None:
    (project.root / "more.yaml").write_text("training: {tasks: 3}\nposteriors: {rmh: {runs: 900}}\n", encoding="utf-8")
    probe = """
include: "workflow/Snakefile"
from etalumis.config import to_yaml
assert config["run"]["name"] == CONFIG.run.name  # as the report's texts read it
open("used.yaml", "w", encoding="utf-8").write(to_yaml(CONFIG))
"""
    (project.root / "probe").write_text(probe, encoding="utf-8")
    words = [*(["--configfile", *files] if files else []), *(["--config", *sections] if sections else [])]
    project.jobs("simulator", "--snakefile", "probe", *words)
    monkeypatch.chdir(project.root)
    assert main(["config", "show", *files, *(["--config", *sections] if sections else [])]) == 0
    shown = capsys.readouterr().out
    assert (project.root / "used.yaml").read_text(encoding="utf-8") == shown
    # scripts/run_workflow.py passes the same words to Snakemake, and finds the results where Snakemake writes them
    script = load_script(project.root / "scripts" / "run_workflow.py")
    calls: list[list[str]] = []
    monkeypatch.setattr(script, "run_snakemake", lambda command: calls.append(command) or 1)
    monkeypatch.setattr("sys.argv", ["run_workflow.py", "--report-only", *words])
    script.main()
    (call,) = calls
    assert call[call.index("snakemake") + 1 :][: len(words)] == words
    name = read([project.root / file for file in files or ["config/config.yaml"]], sections).run.name
    assert call[call.index("--report") + 1] == f"results/{name}/workflow.html"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "run={seed: 1}", "--config", "traces={test: 9}"], "--config is given twice"),
        (["--configfile", "twice.yaml"], "key 'run' is given twice"),
    ],
)
def test_repeated_options_and_sections_are_refused(project: DryProject, words: list[str], said: str) -> None:
    (project.root / "twice.yaml").write_text("run: {seed: 1}\nrun: {name: x}\n", encoding="utf-8")
    done = project.snakemake("--dry-run", *words)
    assert done.returncode != 0
    assert said in done.stdout


def test_replace_workflow_config_is_refused() -> None:
    options = SimpleNamespace(replace_workflow_config=True, config_args=None)
    with pytest.raises(ConfigError, match="--replace-workflow-config: not supported"):
        read_config(SimpleNamespace(configfiles=[], config_settings=options))


# numbers of jobs in the dry run below, which would be slow with a thousand of each
SCATTERED = {"traces": {"jobs": 101}, "posteriors": {"rmh": {"chains": 101}, "ic": {"jobs": 101}}}


@pytest.mark.parametrize(("end", "formats"), [("lowest", "png pdf"), ("highest", "png svg")])
def test_the_dag_supports_all_that_the_configuration_accepts(project: DryProject, end: str, formats: str) -> None:
    """With all keys at the ends of their ranges, a rule makes every file and the system accepts every shell line."""
    config = from_mapping(extremes(Config, end))
    paths = Paths(config.run.name)
    (project.root / "extreme.yaml").write_text(to_yaml(config), encoding="utf-8")
    write_network(project.root, "another+run/network-1.0@x")
    (project.root / "fewer.yaml").write_text(yaml.safe_dump(SCATTERED if end == "highest" else {}), encoding="utf-8")
    last = [paths.traces("train", config.traces.jobs - 1)]
    last += [paths.inference_table]
    engines = config.posteriors.engines
    last += [posterior_files(paths, config, engine)[-1] for engine in engines]
    done = project.snakemake("all", *map(str, last), "--dry-run", "--configfile", "extreme.yaml", "fewer.yaml")
    assert done.returncode == 0, done.stdout[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("Shell command: ")]
    assert all(sum(f"--output {path}" in line for line in lines) == 1 for path in last)
    figures = next(line for line in lines if "etalumis --log" in line and " figures --config " in line)
    assert figures.endswith(f" --format {formats}")
    # a shell line is one argument of a process, which Linux limits to 128 KiB
    inputs = [trace_files(paths, config, "train"), *(posterior_files(paths, config, engine) for engine in engines)]
    assert max(len(" ".join(map(str, files))) for files in inputs) < 2**17 - 4096


def test_the_name_of_an_observation_is_one_word_of_the_shell(project: DryProject) -> None:
    done = project.snakemake("observation", "--dry-run", "--config", 'observation={name: "-a; b\'s"}')
    line = next(line for line in done.stdout.splitlines() if "etalumis" in line and "traces observation" in line)
    assert "--name=-a; b's" in shlex.split(line)


def test_the_expressions_of_the_trigger_are_words_of_the_shell(project: DryProject) -> None:
    texts = '["P(a in {1, 2}) >= 0.9", "b > 1"]'
    given = f"observations={{first: 2, count: 5, engines: [importance], runs: 9, probabilities: {texts}}}"
    done = project.snakemake("infer", "--dry-run", "--config", given)
    line = next(line for line in done.stdout.splitlines() if "etalumis" in line and " infer --config " in line)
    words = shlex.split(line)
    assert words[words.index("--engine") : words.index("--output")] == [
        *("--engine", "importance", "--first", "2", "--count", "5", "--runs", "9"),
        *("--probability", "P(a in {1, 2}) >= 0.9", "P(b > 1)"),
    ]
    assert "--network" not in words
    assert project.jobs("infer", "--config", given) == {"simulator": 1, "generate": 1, "infer": 1}
    wrong = project.snakemake("--dry-run", "--config", 'observations={probabilities: ["px >"]}')
    assert wrong.returncode != 0
    assert "--probability 'px >': character 5: expected a number" in wrong.stdout


@pytest.mark.parametrize("stamp", [None, {"format": "etalumis-results", "version": 0}])
def test_results_of_another_version_are_refused(project: DryProject, stamp: object) -> None:
    (project.demo.root / "traces").mkdir(parents=True)
    if stamp is not None:
        project.demo.format.write_text(json.dumps(stamp), encoding="utf-8")
    done = project.snakemake("--dry-run")
    assert done.returncode != 0
    assert "made by another version of etalumis" in done.stdout
    assert "mv results/demo results/demo-old" in done.stdout
