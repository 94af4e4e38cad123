# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every verb, every option and every example of a help text is run.

The examples run as they stand, in order, in a folder where they fill `results/demo`. The lists below add what an
example needs, replace what would take minutes or never end, and use the options that no example uses. A line that
starts with `!` must fail with exit code 1.
"""

import argparse
import ast
import importlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from etalumis import cli
from etalumis.cli import main
from etalumis.cli.serve import _DESCRIPTION as SERVE_HELP
from etalumis.layers import LayerTable

CONFIG = """\
run: {name: demo, seed: 1}
traces: {train: 40, valid: 10, test: 3, jobs: 1, shard_traces: 20}
network:
  {conv_channels: [2, 2, 2, 2, 2], observation_embedding: 4, lstm_hidden: 8, address_embedding: 4}
training: {batch_size: 4, max_traces: 40, valid_every: 2}
posteriors:
  entries: [all]
  rmh: {chains: 2, runs: 60, thin: 1, temperatures: 2}
  network_rmh: {chains: 1, runs: 60, init_runs: 20, temperatures: 2, steps: 2, candidates: 4}
  ic: {jobs: 1, runs: 20}
  smc: {jobs: 1, starts: 20, particles: 10, conditional_ess: 0.3, entry_moves: 1, block_moves: 1}
  importance: {jobs: 1, runs: 20}
figures: {format: [png]}
experiments:
  {minibatch: 8, lstm_layers: [1], lstm_hidden: [8], mixture_components: [2], grid_traces: 16, seeds: 2,
   seed_traces: 16, ranks: [1], rank_batch_size: 4, rank_iterations: 10, paper_iterations: 2}
"""
MODELS = """\
import numpy as np
from etalumis.distributions import ArrayDistribution, Bernoulli, Beta, Normal, Uniform
from etalumis.models import observe, sample, tag

def decay():
    px = sample(Uniform(-3.0, 3.0), name="px")
    image = np.zeros((20, 20, 20))
    image[2, 3, :10] = px
    observe(ArrayDistribution(Normal.code, (image, np.asarray(0.3))), name="calorimeter")
    tag(px, "px")

def decays(times=2):
    for _ in range(times - 1):
        sample(Uniform(-1.0, 1.0))
    decay()
"""
DEMO = "--config $R/config.yaml --simulator $R/simulator"
SETTING = "stacks1-hidden8-components2"
EXPERIMENT = "etalumis experiments train"
TRAINING = (
    "--config $R/config.yaml --layers $R/layers/layers.json --train $R/sorted/train --valid $R/sorted/valid"
    " --output $R/experiments/trainings"
)
INFER = f"{DEMO} --observation $R/observation/observation.h5"

# lines before the example that holds these words: they write what it reads
BEFORE = {
    "etalumis traces generate --config": [
        "etalumis simulator couple --runs 5 --depends-on models.py --output $R/simulator -- "
        "etalumis serve models:decay {endpoint}",
        "etalumis simulator couple --output other -- etalumis serve models:decays {endpoint} --arg times=2",
    ],
    "etalumis traces sort --config": [
        f"etalumis -q traces generate {DEMO} --split valid --output $R/traces/valid-000.h5",
        f"etalumis traces generate --log log.txt {DEMO} --split test --output $R/traces/test-000.h5",
        "etalumis traces sort --world-size 1 --config other.yaml --input $R/traces/valid-*.h5 --output $R/sorted/valid",
        "etalumis traces generate --config other.yaml --simulator $R/simulator --split train --output more/0.h5",
    ],
    "etalumis traces split": [
        "etalumis simulator couple --force --output tossed -- etalumis serve coin:toss {endpoint}",
        "etalumis traces generate --config many.yaml --simulator tossed --split train --output all/0.h5",
    ],
    "etalumis layers --input more": [
        "etalumis traces generate --config other.yaml --simulator other --split train --output other/traces.h5",
        "etalumis traces sort --shard-traces 20 --input other/traces.h5 --output more/sorted/train",
        "mkdir old",
        "cp $R/layers/layers.json old/layers.json",
    ],
    "etalumis experiments figure2": [f"{EXPERIMENT} {SETTING} {TRAINING}/{SETTING}"],
    "etalumis experiments figure4": [f"{EXPERIMENT} ranks1 {TRAINING}/ranks1"],
    "etalumis experiments figure6": [
        f"{EXPERIMENT} timing-minibatch{number} {TRAINING}/timing-minibatch{number}" for number in (2, 8)
    ],
    "etalumis experiments learning_rates": [f"{EXPERIMENT} minibatch16-rate0.01 {TRAINING}/minibatch16-rate0.01"],
    "etalumis experiments optimizers": [f"{EXPERIMENT} adam-none {TRAINING}/adam-none"],
    "etalumis experiments tables": [f"{EXPERIMENT} paper-ranks1 {TRAINING}/paper-ranks1"],
    "etalumis experiments figure5": [f"{EXPERIMENT} seed2 {TRAINING}/seed2"],
    "etalumis posteriors gather": [
        f"etalumis posteriors rmh {INFER} --chain 1 --output chain-1.h5",
    ],
    "etalumis posteriors export --input $R/posteriors/ic.h5 --output ic.csv": [
        f"etalumis posteriors ic {INFER} --network $R/network --job 1 --scopes prior --force --output prior.h5",
        "mkdir -p $R/posteriors",
        "cp rmh.h5 $R/posteriors/rmh.h5",
        "etalumis posteriors gather --force --input ic-0.h5 --output $R/posteriors/ic.h5",
    ],
}  # fmt: skip

# examples that would never end, need an address of another machine or take minutes
INSTEAD = {
    "etalumis serve coin:toss": "etalumis serve coin:toss {port} --idle-timeout 0.1",
    "etalumis serve coin:toss 6000": "etalumis serve coin:toss {port} --idle-timeout 0.1",
    "etalumis serve coin:toss ipc:///tmp/coin": "etalumis serve coin:toss ipc://{folder}/coin.ipc --idle-timeout 0.1",
    "etalumis serve coin:toss tcp://192.0.2.7:5555": (
        "etalumis serve coin:toss tcp://127.0.0.1:{port} --idle-timeout 0.1"
    ),
    "etalumis quickstart coin:toss --output coin": (
        "etalumis quickstart coin:toss --config $R/config.yaml --seed 2 --engine rmh --output coin"
    ),
    "etalumis quickstart coin:toss --observe heads=1 --engine smc ic --output coin-ic": (
        "etalumis quickstart coin:toss --config $R/config.yaml --observe heads=1 --engine rmh ic --output coin-ic"
    ),
    "etalumis bench ppx": "etalumis bench ppx --seconds 0.1 --simulator-examples build",
    "etalumis bench ppx --json > ppx.json": (
        "etalumis bench ppx --seconds 0.1 --simulator-examples build --json > ppx.json"
    ),
    f"etalumis calibrate {DEMO} --engine importance --runs 2000 --observations 20 --output calibration/importance": (
        f"etalumis calibrate {DEMO} --engine importance --runs 20 --observations 2 --output calibration/importance"
    ),
    f"etalumis calibrate {DEMO} --engine ic --network $R/network --runs 2000 --output calibration/ic": (
        f"etalumis calibrate {DEMO} --engine ic --network $R/network --runs 20 --observations 2 --output calibration/ic"
    ),
    f"etalumis bench infer {INFER} --network $R/network --diagnostics $R/diagnostics/diagnostics.json": (
        f"etalumis bench infer {INFER} --network $R/network --seconds 1 --json > infer.json"
    ),
}

# test_bench.py calls them, and checks their results; they take a minute even at the smallest scale
BENCHES = ("bench traces", "bench dataset", "bench train")

# options that no example uses
PYTHON_LINES = [
    "etalumis -v traces info $R/sorted/train --mix",
    f"etalumis infer {DEMO} --engine importance --runs 30 --traces $R/traces/test-000.h5 --first 1 --seed 2"
    " --unconditioned none --force --output test.csv",
    f"etalumis infer {DEMO} --network $R/network --scopes prior --traces $R/traces/test-000.h5 --output other.csv",
    "etalumis traces verify --quick $R/traces/*.h5 $R/sorted/train",
    "etalumis traces sort --mix --memory 200 --shard-traces 9 --input $R/traces/train-000.h5 more/0.h5 --output mixed",
    "etalumis traces merge --mix --world-size 1 --memory 200 --shard-traces 9 --input mixed --output merged",
    "etalumis traces split --mix --input mixed --share a=0.5 b=0.5 --seed 1 --output halves",
    "etalumis traces convert --to-plain --mix --input mixed --output mixed-plain.h5",
    "etalumis traces convert --input foreign.npz --model theirs --split valid --seed 3 --output foreign-valid.h5",
    "etalumis traces observation --input $R/traces/test-000.h5 --trace 1 --seed 1 --name calorimeter --output one.h5",
    "etalumis traces observation --force --measured deposits.txt --name deposits --output one.h5",
    "etalumis layers --force --input $R/sorted/train --output layers.json",
    "etalumis network train --dry-run --config $R/config.yaml --layers $R/layers/layers.json"
    " --train $R/sorted/train --valid $R/sorted/valid --output dry",
    "etalumis network train --force --config $R/config.yaml --layers $R/layers/layers.json"
    " --train $R/sorted/train --valid $R/sorted/valid --output again --world-size 1",
    f"etalumis calibrate {DEMO} --engine ic --network $R/network --scopes prior --runs 30 --observations 2 --force"
    " --quantities px --min-ess 5 --max-khat 0.8 --max-rhat 1.1 --format png --output calibration/ic",
    f"! etalumis calibrate {DEMO} --engine importance --runs 30 --categorical px --output calibration/none",
    f"etalumis posteriors importance {INFER} --job 1 --runs 20 --force --output importance-1.h5",
    f"etalumis posteriors importance {INFER} --output importance-0.h5 --force",
    f"etalumis posteriors smc {INFER} --network $R/network --job 1 --force --output smc-1.h5",
    f"etalumis posteriors rmh {INFER} --chain 1 --force --output chain-1.h5",
    f"etalumis posteriors network_rmh {INFER} --network $R/network --chain 1 --force --output guided-1.h5",
    "etalumis diagnostics --force --config $R/config.yaml --posteriors rmh.h5 --output diagnostics.json",
    "etalumis --verbose figures --format png svg --posteriors rmh.h5 --output drawn",
    "etalumis serve --arg times=3 models:decays {port} --idle-timeout 0.1",
    f"etalumis posteriors ic {INFER} --job 0 --force --output from.h5".replace("$R/config.yaml", "from.yaml"),
    "etalumis infer --config from.yaml --simulator $R/simulator --traces $R/traces/test-000.h5 --count 1"
    " --output from.csv",
    "etalumis calibrate --config from.yaml --simulator $R/simulator --engine ic --observations 1 --output from-cal",
    f"etalumis bench infer {INFER} --network $R/network --diagnostics diagnostics.json --table from.jsonl --seconds 1",
    "! etalumis network train --config from.yaml --layers $R/layers/layers.json --train $R/sorted/train"
    " --valid $R/sorted/valid --output from",
    "etalumis experiments figure2 --format svg --trainings $R/experiments/trainings/stacks1-*/ --output other-formats",
    "etalumis experiments figure3 --format pdf --network $R/network --observation $R/observation/observation.h5"
    " --traces $R/traces/test-000.h5 --simulator $R/simulator --output other-formats",
    "etalumis experiments figure4 --format svg --trainings $R/experiments/trainings/ranks*/ --output other-formats",
    "etalumis experiments figure5 --format svg --trainings $R/experiments/trainings/seed*/ --output other-formats",
    "etalumis experiments figure6 --format svg --config $R/config.yaml --trainings $R/experiments/trainings/ranks*/"
    " --sizes $R/experiments/trainings/timing-*/ --train $R/sorted/train --layers $R/layers/layers.json"
    " --output other-formats",
    "etalumis experiments learning_rates --format svg --trainings $R/experiments/trainings/minibatch*/"
    " --output other-formats",
    "etalumis experiments optimizers --format svg --trainings $R/experiments/trainings/adam*/ --output other-formats",
    "etalumis config schema",
    "etalumis config check config/config.yaml --config 'run={name: second}'",
    f"! etalumis --quiet posteriors ic {INFER} --network $R/network --job 0 --unconditioned calorimeter --output no.h5",
    f"! etalumis -q posteriors smc {INFER} --network $R/network --job 0 --unconditioned calorimeter --output no.h5",
    f"etalumis posteriors network_rmh {INFER} --network $R/network --chain 0 --unconditioned y --output n.h5",
]
CPP_LINES = [
    "etalumis traces generate --workers 2 --pin --config $R/config.yaml --simulator muon --split test --output t.h5",
    "etalumis traces observation --input t.h5 --trace 0 --seed 1 --output o.h5",
    "etalumis posteriors rmh --workers 2 --pin --config $R/config.yaml --simulator muon --observation o.h5"
    " --unconditioned obs1 --chain 0 --output m.h5",
    "etalumis calibrate --workers 2 --pin --config $R/config.yaml --simulator muon --engine importance --runs 50"
    " --observations 3 --unconditioned obs0 --output calibrated",
    "etalumis posteriors importance --workers 2 --pin --config $R/config.yaml --simulator muon --observation o.h5"
    " --unconditioned obs0 --runs 50 --output i.h5",
    "etalumis infer --workers 2 --pin --config $R/config.yaml --simulator muon --engine importance --observations o.h5"
    " --output many.csv",
    "etalumis traces generate --config $R/config.yaml --simulator muon --split valid --output v.h5",
    "etalumis traces sort --shard-traces 9 --input v.h5 --output v",
    "etalumis layers --input v --output v.json",
    "etalumis network train --workers 2 --config $R/config.yaml --layers v.json --simulator muon --valid v"
    " --output online",
]
SHERPA_LINES = [
    "etalumis simulator fetch --config config/config.yaml --cache {cache}",
    "etalumis simulator build --force --config config/config.yaml --cache {cache} --build-dir {cache}/build/sherpa"
    " --output s",
    "etalumis simulator config --config config/config.yaml --output s",
]


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every verb and action with its parser, and "" with one that has all verbs."""
    root = argparse.ArgumentParser(prog="etalumis", epilog=cli._EPILOG)
    verbs = root.add_subparsers(metavar="VERB")
    for verb in cli.VERBS:
        importlib.import_module(f"etalumis.cli.{verb}").register(verbs)

    def walk(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        yield name, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, child in action.choices.items():
                    yield from walk(f"{name} {word}".strip(), child)

    return walk("", root)


PARSERS = dict(parsers())


def examples_of(text: str) -> Iterator[str]:
    """Yield the command lines of a help text, without the comments beside them; variables become `$R`."""
    folders = dict(re.findall(r"^  ([A-Z])=(\S+)$", text, re.MULTILINE))
    assert set(folders.values()) <= {"results/demo"}
    text = re.sub(r"\$[A-Z]\b|results/demo", "$R", re.sub(r" *\\\n *", " ", text))
    for line in re.findall(r"^  (\S.*)$", text, re.MULTILINE):
        command = re.split(r" {2,}", line)[0]
        if "etalumis" in command.split() or command.startswith("$R/"):
            yield command


TEXTS = [*(PARSERS[name].epilog or "" for name in PARSERS if name), PARSERS[""].epilog]
EXAMPLES = list(dict.fromkeys(line for text in TEXTS for line in examples_of(text)))
BENCH = [line for line in EXAMPLES if any(name in line for name in BENCHES)]
SHERPA = [line for line in EXAMPLES if re.search(r"simulator (fetch|build|config)|sherpa_tau", line)]
CPP = [line for line in EXAMPLES if re.search(r"build/muon|bench ppx", line)]
WORKFLOW = [line for line in EXAMPLES if line.startswith("etalumis why")]
PYTHON = [line for line in EXAMPLES if line not in (*SHERPA, *CPP, *BENCH, *WORKFLOW)]


def script(examples: list[str], more: list[str]) -> list[str]:
    """Return the lines that are run for some examples."""
    before = {example: lines for words, lines in BEFORE.items() for example in examples if words in example}
    return [
        *(line for example in examples for line in [*before.get(example, []), INSTEAD.get(example, example)]),
        *more,
    ]


LINES = {
    "python": script(PYTHON, PYTHON_LINES),
    "cpp": script(CPP, CPP_LINES),
    "sherpa": script(SHERPA, SHERPA_LINES),
    "workflow": WORKFLOW,  # tests/dag/test_reruns.py runs the verb in a folder with the workflow
}


@pytest.mark.parametrize("name", PARSERS)
def test_every_verb_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*name.split(), "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: etalumis {name}".rstrip())


@pytest.mark.parametrize("name", [name for name in PARSERS if len(name.split()) == 2])
def test_the_help_of_an_action_has_examples_of_this_action(name: str) -> None:
    commands = [line for line in examples_of(PARSERS[name].epilog or "") if "etalumis" in line.split()]
    assert all(name in command for command in commands), commands


@pytest.mark.parametrize("name", PARSERS)
def test_a_help_text_lists_each_action_once(name: str) -> None:
    lines = PARSERS[name].format_help().splitlines()
    for action in PARSERS[name]._actions:
        for word in action.choices if isinstance(action, argparse._SubParsersAction) else ():
            assert sum(re.match(rf" {{2,4}}{word}( |$)", line) is not None for line in lines) == 1, word
    assert max(map(len, lines)) <= 130


def test_the_tables_belong_to_examples() -> None:
    assert set(INSTEAD) <= set(EXAMPLES)
    assert [words for words in BEFORE if not any(words in line for line in EXAMPLES)] == []


def verb_and_words(line: str) -> tuple[str, list[str]]:
    """Return the verb (and action) that a line calls, and its words up to a command of its own."""
    words = shlex.split(line)
    words = words[words.index("etalumis") + 1 :] if "etalumis" in words else []
    words = words[: words.index("--")] if "--" in words else words
    named = [word for word in cli.logs.Options.take(list(words))[1] if not word.startswith("-")]
    return next((name for n in (2, 1) if (name := " ".join(named[:n])) in PARSERS), ""), words


def words_of_bench_tests() -> set[str]:
    """Return the texts in test_bench.py, of which it makes the command lines of the benchmarks."""
    tree = ast.parse(Path(__file__).with_name("test_bench.py").read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("line", BENCH)
def test_the_benchmarks_are_run_by_their_own_tests(line: str) -> None:
    name, words = verb_and_words(line.partition(" > ")[0])
    assert name in BENCHES
    assert set(name.split()) <= words_of_bench_tests()
    cli._parse(words)


def test_every_option_is_run_by_a_line() -> None:
    used: dict[str, set[str]] = {name: set() for name in PARSERS}
    for lines in LINES.values():
        for name, words in map(verb_and_words, lines):
            for part in (name, ""):
                used[part] |= {word.partition("=")[0] for word in words if word.startswith("-")}
    for name in BENCHES:
        used[name] |= words_of_bench_tests()
    unused = [
        f"{name} {action.option_strings[-1]}"
        for name, parser in PARSERS.items()
        for action in parser._actions
        if action.option_strings and action.dest != "help" and not used[name] & set(action.option_strings)
    ]
    unused += [option for option in ("-q", "--quiet", "-v", "--verbose", "--log") if option not in used[""]]
    assert unused == [], "add a line that uses them to PYTHON_LINES, CPP_LINES or SHERPA_LINES"


class Demo:
    """A folder in which examples can be run, and the current folder of this process."""

    def __init__(self, root: Path, checkout: Path) -> None:
        self.root = root
        for name in ("config", "workflow/schemas"):
            shutil.copytree(checkout / name, root / name)
        (root / "results" / "demo").mkdir(parents=True)
        (root / "results" / "demo" / "config.yaml").write_text(CONFIG, encoding="utf-8")
        (root / "other.yaml").write_text(CONFIG.replace("seed: 1", "seed: 2"), encoding="utf-8")
        (root / "from.yaml").write_text(CONFIG.replace("{conv", "{from: results/demo/network, conv"), encoding="utf-8")
        (root / "many.yaml").write_text(CONFIG.replace("train: 40", "train: 1000"), encoding="utf-8")
        (root / "models.py").write_text(MODELS, encoding="utf-8")
        (root / "coin.py").write_text(textwrap.dedent(SERVE_HELP.partition("coin.py:\n")[2]), encoding="utf-8")
        (root / "deposits.txt").write_text("1.5 2.5\n", encoding="utf-8")
        np.savez(
            root / "foreign.npz",
            **{
                "addresses": ["mu__Normal__1"],
                "distributions": ['{"kind": "Normal", "mean": 0, "stddev": 2.5}'],
                "offset": np.arange(4),
                "address": np.zeros(3, int),
                "value": np.array([0.5, 1.25, -1.0]),
                "distribution": np.zeros(3, int),
                "observation/y": np.array([[0.5], [1.0], [-1.5]]),
            },
        )

    def run(self, line: str, cache: Path = Path()) -> None:
        """Run a line: in this process where it is a plain call of etalumis, else by a shell."""
        filled = {"{port}": free_port(), "{folder}": self.root, "{cache}": cache, "$R": "results/demo"}
        for name, value in filled.items():
            line = line.replace(name, str(value))
        fails = line.startswith("! ")
        line = line.removeprefix("! ")
        if not line.startswith("etalumis ") or ">" in line:
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            return
        words = [sorted(map(str, Path().glob(w))) if "*" in w else [w] for w in shlex.split(line)[1:]]
        try:
            code: object = main([word for expanded in words for word in expanded])
        except SystemExit as left:
            code = left.code
        assert code == int(fails), line


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def demo(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return Demo(tmp_path, checkout)


def test_examples_on_python_models(demo: Demo) -> None:
    for line in LINES["python"]:
        demo.run(line)
    assert (demo.root / "log.txt").read_text(encoding="utf-8")
    old, grown = (LayerTable.load(demo.root / name / "layers.json") for name in ("old", "new"))
    assert grown.rows[: len(old)] != grown.rows
    assert [row.address for row in grown.rows[: len(old)]] == [row.address for row in old.rows]
    assert {path.suffix for path in (demo.root / "drawn").iterdir()} == {".png", ".svg", ".md", ".rst", ".csv"}


def test_examples_on_cpp_models(demo: Demo, cpp_examples: Path) -> None:
    shutil.copytree(cpp_examples, demo.root / "build", ignore=shutil.ignore_patterns("*.a", "CMakeFiles"))
    (demo.root / "build" / "gaussian").rename(demo.root / "build" / "muon")
    for line in LINES["cpp"]:
        demo.run(line)


@pytest.mark.usefixtures("sherpa_simulator")
def test_examples_on_sherpa(demo: Demo, checkout: Path) -> None:
    for line in LINES["sherpa"]:
        demo.run(line, checkout / ".cache")
