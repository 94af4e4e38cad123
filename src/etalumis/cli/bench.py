# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis bench`: speed relative to references that are measured in the same run."""

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from etalumis.cli.arguments import count, seconds
from etalumis.cli.logs import say
from etalumis.config import Config, SimulatorConfig, load
from etalumis.inference.conditioning import read_observations
from etalumis.progress import only_warnings
from etalumis.simulator.built import BuiltSimulator

logger = logging.getLogger(__name__)

_EXAMPLES = {
    "ppx": """\
  etalumis bench ppx
  etalumis bench ppx --json > ppx.json
""",
    "traces": """\
  etalumis bench traces --config config/config.yaml --simulator results/demo/simulator
""",
    "dataset": """\
  etalumis bench dataset --config config/config.yaml --simulator results/demo/simulator --json > dataset.json
""",
    "train": """\
  D=results/demo
  etalumis bench train --config $D/config.yaml --layers $D/layers/layers.json \\
      --train $D/sorted/train --valid $D/sorted/valid
""",
    "infer": """\
  D=results/demo
  etalumis bench infer --config $D/config.yaml --simulator $D/simulator \\
      --observation $D/observation/observation.h5 --network $D/network --diagnostics $D/diagnostics/diagnostics.json
""",
}
_EPILOG = """\
examples:
{examples}
docs/how-to-bench.md describes the comparisons and how to read the results.
"""
_ACTIONS = {
    "ppx": """\
Measure the protocol with a C++ model of 100 draws: interactive draws relative to bare ZeroMQ round trips, delegated
traces relative to local runs of the model, and steps of RMH relative to delegated traces.
""",
    "traces": """\
Measure Sherpa's tau decays: delegated traces relative to Sherpa alone with backtrace() at every draw, the calorimeter
relative to an event of Sherpa, the address of a draw relative to backtrace(), and complete traces written to a file.
""",
    "dataset": """\
Measure trace files: size and writing of real traces, reading of sequential and random minibatches from a million
synthetic traces, sorting these in 400 MB relative to copying them, and memory. Takes about ten minutes and 8 GB of
disk space.
""",
    "train": """\
Measure the training of the network: whole steps relative to the embedding alone, of many trace types relative to one,
in bfloat16 relative to float32; two ranks relative to one; waiting; and ways to sum the gradients.
""",
    "infer": """\
Measure the inference engines on the observation of a finished workflow: runs per second of inference compilation with
many runs in flight relative to one, and of RMH relative to runs from the prior; effective draws per second of inference
compilation relative to importance sampling from the prior.
""",
}
_QUIET = ("etalumis.inference", "etalumis.progress", "etalumis.traces", "etalumis.training")
"""Loggers that would write lines for every slice."""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    text = (
        "measure the protocol (ppx), Sherpa's traces (traces), trace files (dataset), training (train) and the engines "
        "(infer)"
    )
    parser = subparsers.add_parser(
        "bench",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.\nThe programs that are compared alternate on the same cores.",
        epilog=_EPILOG.format(examples="".join(_EXAMPLES.values())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    for name, default in (("ppx", 20.0), ("traces", 60.0), ("train", 120.0), ("infer", 300.0), ("dataset", 60.0)):
        action = actions.add_parser(
            name,
            help=_summary(name),
            description=_ACTIONS[name],
            epilog=_EPILOG.format(examples=_EXAMPLES[name]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.add_argument("--json", action="store_true", help="print a JSON object instead of a table")
        action.add_argument(
            "--seconds", type=seconds, default=default, metavar="S",
            help="total time of all comparisons; an idle machine needs less (default: %(default)g)",
        )  # fmt: skip
        if name == "train":
            for option, metavar, what in (
                ("--config", "FILE", "configuration; its sections network and training are used"),
                ("--layers", "FILE", "layer table"),
                ("--train", "PATH", "sorted training traces"),
                ("--valid", "PATH", "sorted validation traces"),
            ):
                action.add_argument(option, type=Path, required=True, metavar=metavar, help=what)
            action.add_argument(
                "--batch-size", type=count, default=64, metavar="N", help="traces per step (default: %(default)s)"
            )
            continue
        if name == "infer":
            action.add_argument("--network", type=Path, required=True, metavar="DIR", help="folder of the network")
            action.add_argument(
                "--observation", type=Path, nargs="+", action="extend", required=True, metavar="FILE",
                help="from `etalumis traces observation`",
            )  # fmt: skip
            action.add_argument(
                "--diagnostics", type=Path, metavar="FILE",
                help="diagnostics.json of the workflow: adds effective draws, R-hat and k-hat of all its engines",
            )  # fmt: skip
            action.add_argument(
                "--table",
                type=Path,
                metavar="FILE",
                help=".jsonl table of `etalumis infer`: adds its median efficiency",
            )
        else:
            action.add_argument(
                "--simulator-examples", type=Path, metavar="DIR", help="built C++ examples (default: build them)"
            )
        if name != "ppx":
            action.add_argument(
                "--simulator", type=Path, required=True, metavar="DIR", help="folder of the built simulator"
            )
            action.add_argument(
                "--config",
                type=Path,
                metavar="FILE",
                help="configuration with which it was built (default: all defaults)",
            )
    action.add_argument(
        "--traces", type=count, default=1_000_000, metavar="N",
        help="size of the large synthetic set; the small one has a tenth (default: %(default)s)",
    )  # fmt: skip
    action.add_argument("--folder", type=Path, metavar="DIR", help="folder for the files (default: a temporary folder)")


def _summary(action: str) -> str:
    text = _ACTIONS[action].partition(":")[0]
    return f"{text[0].lower()}{text[1:]}"


def run(args: argparse.Namespace) -> int:
    """Measure and print the result."""
    with only_warnings(*_QUIET):
        if args.action == "ppx":
            from etalumis.bench import ppx

            report = ppx.bench(args.seconds, args.simulator_examples)
        elif args.action == "traces":
            from etalumis.bench import traces

            report = traces.bench(args.seconds, args.simulator, _simulator(args), args.simulator_examples)
        elif args.action == "train":
            from etalumis.bench import train

            report = train.bench(args.seconds, load(args.config), args.layers, args.train, args.valid, args.batch_size)
        elif args.action == "infer":
            report = _infer(args)
        else:
            from etalumis.bench import dataset

            report = dataset.bench(
                args.seconds, args.simulator, _simulator(args), args.simulator_examples, args.traces, args.folder
            )
    say(json.dumps(report.as_json(), indent=2) if args.json else report.table())
    return 0


def _infer(args: argparse.Namespace) -> Any:
    import torch  # a second to import: only where it is needed

    from etalumis.bench import finished, infer
    from etalumis.diagnostics.files import read_diagnostics
    from etalumis.network import checkpoint as network_file

    torch.set_num_threads(1)
    config = load(args.config) if args.config is not None else Config()
    built = BuiltSimulator(args.simulator, config.simulator)
    conditioning = read_observations(args.observation)
    known: dict[str, float] = {}
    if args.table is not None:
        known.update(finished.of_table(args.table))
    if args.diagnostics is not None:
        known.update(finished.of_diagnostics(read_diagnostics(args.diagnostics)))
    report = infer.bench(args.seconds, built, config, conditioning, network_file.load(args.network))
    return replace(report, figures={**report.figures, **known})


def _simulator(args: argparse.Namespace) -> SimulatorConfig:
    return load(args.config).simulator if args.config is not None else SimulatorConfig()
