# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis experiments`: trainings, figures and tables of the paper that compare settings, seeds and ranks."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etalumis import config
from etalumis.cli.logs import say

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Make figures and tables of the paper beside those of a run. `train` runs one of their trainings; the others draw.
`make paper-figures` calls them in order. Each figure is written with its caption (.md, .rst) and its numbers (.csv).
"""
_TRAIN = """\
Run one training of the experiments, with the settings of the section `experiments` of the configuration:

  stacksL-hiddenH-componentsK   figure 2: a setting of the grid
  minibatchB-rateR              section 6.3: a minibatch and an initial learning rate
  OPTIMIZER-SCHEDULE            section 7.1.2, such as adam_larc-polynomial2
  seedN                         figure 5: a seed
  ranksN                        figures 4 and 6: N ranks of MPI
  timing-minibatchN             figure 6: one rank, with N traces in a minibatch
  paper-ranksN                  table 2: the same with the network of the paper

It resumes after an interruption, as `etalumis network train` does.
"""
_ROUNDS = 10
"""Rounds of measurements of sub-minibatches."""
_STATEMENTS = """\
Measure what the paper says in words about speed, and write it beside the paper's numbers: sub-minibatches (section
4.4.3), ways to sum gradients (4.4.4, with the ranks of MPI that it is called on), waiting for data in the training of
the run, and IC over RMH from its diagnostics.
"""
_EPILOG = "example:\n  R=results/demo\n"
_EXAMPLES = {
    "train": """\
  etalumis experiments train seed1 --config $R/config.yaml --layers $R/layers/layers.json \\
      --train $R/sorted/train --valid $R/sorted/valid --output $R/experiments/trainings/seed1
""",
    "figure2": """\
  etalumis experiments figure2 --trainings $R/experiments/trainings/stacks1-*/ --output $R/experiments
""",
    "figure3": """\
  etalumis experiments figure3 --network $R/network --observation $R/observation/observation.h5 \\
      --traces $R/traces/test-000.h5 --output $R/experiments
""",
    "figure4": """\
  etalumis experiments figure4 --trainings $R/experiments/trainings/ranks*/ --output $R/experiments
""",
    "figure5": """\
  etalumis experiments figure5 --trainings $R/experiments/trainings/seed*/ --output $R/experiments
""",
    "figure6": """\
  etalumis experiments figure6 --config $R/config.yaml --trainings $R/experiments/trainings/ranks*/ \\
      --sizes $R/experiments/trainings/timing-*/ --train $R/sorted/train \\
      --layers $R/layers/layers.json --output $R/experiments
""",
    "learning_rates": """\
  etalumis experiments learning_rates --trainings $R/experiments/trainings/minibatch*/ --output $R/experiments
""",
    "optimizers": """\
  etalumis experiments optimizers --trainings $R/experiments/trainings/adam*/ --output $R/experiments
""",
    "tables": """\
  etalumis experiments tables --trainings $R/experiments/trainings/paper-ranks*/ --output $R/experiments
""",
    "statements": """\
  python -m etalumis.mpiexec -n 2 etalumis experiments statements --config $R/config.yaml \\
      --layers $R/layers/layers.json --train $R/sorted/train --network $R/network \\
      --diagnostics $R/diagnostics/diagnostics.json --output $R/experiments
""",
}
_HELP = {
    "train": "run one training",
    "figure2": "loss curves of architectures",
    "figure3": "proposals of a network along the trace of an observation",
    "figure4": "time by phase for several numbers of ranks",
    "figure5": "loss of several seeds, mean and scatter",
    "figure6": "weak scaling, measured and simulated",
    "learning_rates": "final loss by learning rate and minibatch",
    "optimizers": "loss of optimizers and learning-rate schedules",
    "tables": "tables 1 and 2, and the numbers of parameters",
    "statements": "what the paper says in words about speed, measured here",
}


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "experiments", help="figures and tables of the paper that compare settings, seeds and ranks",
        description=_DESCRIPTION, epilog=_EPILOG + "".join(_EXAMPLES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    train = _add(actions, "train", _TRAIN)
    train.add_argument("name", metavar="NAME", help="name of the training, as above")
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    train.add_argument("--layers", type=Path, required=True, metavar="FILE", help="layer table (etalumis layers)")
    train.add_argument("--train", type=Path, required=True, metavar="PATH", help="sorted training traces")
    train.add_argument("--valid", type=Path, required=True, metavar="PATH", help="sorted validation traces")
    train.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the network")
    along = _add(actions, "figure3", f"Draw the {_HELP['figure3']}.")
    along.add_argument("--network", type=Path, required=True, metavar="DIR", help="trained network")
    along.add_argument("--observation", type=Path, required=True, metavar="FILE", help="observation")
    along.add_argument(
        "--traces", type=Path, required=True, metavar="FILE", help="test traces; one is that of the observation"
    )
    along.add_argument(
        "--simulator", type=Path, metavar="DIR", help="built simulator, for the names of the decay channels"
    )
    _add_output(along)
    said = _add(actions, "statements", _STATEMENTS)
    said.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    said.add_argument("--layers", type=Path, required=True, metavar="FILE", help="layer table (etalumis layers)")
    said.add_argument("--train", type=Path, required=True, metavar="PATH", help="sorted training traces")
    said.add_argument("--network", type=Path, required=True, metavar="DIR", help="network of the run, with its phases")
    said.add_argument("--diagnostics", type=Path, required=True, metavar="FILE", help="diagnostics of the run")
    said.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the table")
    for name in ("figure2", "figure4", "figure5", "figure6", "learning_rates", "optimizers", "tables"):
        drawn = _add(actions, name, f"{'Write' if name == 'tables' else 'Draw'} the {_HELP[name]}.")
        drawn.add_argument(
            "--trainings", type=Path, nargs="+", required=True, metavar="DIR", help="folders of the trainings"
        )
        if name == "figure6":
            drawn.add_argument(
                "--sizes", type=Path, nargs="+", required=True, metavar="DIR",
                help="folders of trainings on one rank with other minibatch sizes",
            )  # fmt: skip
            drawn.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
            drawn.add_argument("--train", type=Path, required=True, metavar="PATH", help="sorted training traces")
            drawn.add_argument("--layers", type=Path, required=True, metavar="FILE", help="layer table")
        if name == "tables":
            drawn.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the tables")
        else:
            _add_output(drawn)


def _add(actions: Any, name: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=_HELP[name], description=description, epilog=_EPILOG + _EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the figure")
    parser.add_argument(
        "--format", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="file formats (default: png)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    if args.action == "train":
        return _train(args)
    if args.action == "tables":
        return _tables(args)
    if args.action == "statements":
        return _statements(args)
    from etalumis.figures import style
    from etalumis.products import check_output_folder

    drawing = _DRAW[args.action](args)
    check_output_folder(args.output)
    for path in style.save(drawing, args.output, args.format):
        say(str(path))
    logger.info("%s: %s", drawing.stem, drawing.title)
    return 0


def _train(args: argparse.Namespace) -> int:
    # mpi4py starts MPI when it is imported, and torch takes seconds: import them only here
    from mpi4py import MPI

    from etalumis.cli.network import failing_together, report_outcome
    from etalumis.experiments.machine import Machine
    from etalumis.experiments.variants import ranks_of, settings_of
    from etalumis.training.prepare import train

    comm = MPI.COMM_WORLD
    with failing_together(comm):
        machine = Machine.of_this()
        settings = settings_of(config.load(args.config), args.name)
        outcome = train(settings, args.layers, args.train, args.valid, args.output, comm, ranks_of(args.name))
        if outcome.finished and comm.rank == 0:
            machine.save(args.output)
    return report_outcome(outcome, args.output, comm.rank)


def _figure2(args: argparse.Namespace) -> Any:
    from etalumis.experiments import figure2, training_record

    return figure2.draw(training_record.load_all(args.trainings))


def _figure3(args: argparse.Namespace) -> Any:
    from etalumis.experiments import figure3
    from etalumis.figures.inputs import read_channel_labels

    labels = read_channel_labels(args.simulator) if args.simulator else None
    return figure3.draw(args.network, args.observation, args.traces, labels)


def _figure4(args: argparse.Namespace) -> Any:
    from etalumis.experiments import figure4, rank_timings

    return figure4.draw(rank_timings.load_all(args.trainings))


def _figure6(args: argparse.Namespace) -> Any:
    from etalumis.experiments import figure6, rank_timings

    settings = config.load(args.config)
    timings, sizes = rank_timings.load_all(args.trainings), rank_timings.load_all(args.sizes)
    return figure6.draw(timings, sizes, args.train, args.layers, settings.experiments, settings.run.seed)


def _tables(args: argparse.Namespace) -> int:
    import torch

    from etalumis.experiments import paper_tables, parameter_counts, rank_timings
    from etalumis.experiments.tables import save_table

    timings = rank_timings.load_all(args.trainings)
    peak = paper_tables.matrix_gflops(getattr(torch, timings[0].record.training["arithmetic"]))
    tables = {
        ("table1_machines", "Table 1 of the paper: processors"): paper_tables.table1(timings),
        ("table2_throughput", "Table 2 of the paper: training throughput"): paper_tables.table2(timings, peak),
        (parameter_counts.STEM, parameter_counts.TITLE): parameter_counts.table(),
    }
    for (stem, title), (text, rows) in tables.items():
        for path in save_table(args.output, stem, title, text, rows):
            say(str(path))
    return 0


def _statements(args: argparse.Namespace) -> int:
    from mpi4py import MPI

    from etalumis.cli.network import failing_together
    from etalumis.diagnostics.files import read_diagnostics
    from etalumis.errors import NetworkError
    from etalumis.experiments import statements, sub_minibatches
    from etalumis.experiments.gradient_sums import time_sums
    from etalumis.experiments.machine import Machine
    from etalumis.experiments.tables import save_table
    from etalumis.layers import LayerTable
    from etalumis.network.model import ProposalNetwork
    from etalumis.paths import STATEMENTS
    from etalumis.traces.reading.dataset import TraceDataset
    from etalumis.training.phases import FILE, read_phases

    comm = MPI.COMM_WORLD
    with failing_together(comm):
        if comm.size < 2:
            raise NetworkError(
                "experiments statements: expected at least 2 ranks, whose gradients are summed, found 1; start it with "
                "`python -m etalumis.mpiexec -n 2 etalumis experiments statements ...`"
            )
        machine, settings = Machine.of_this(), config.load(args.config)
        file = args.network / FILE
        phases = read_phases(file) if file.exists() else None
        diagnostics = read_diagnostics(args.diagnostics)
        sums = time_sums(settings, args.layers, args.train, comm)
        if comm.rank == 0:
            layers = LayerTable.load(args.layers)
            dataset = TraceDataset(args.train, layers, tags=tuple(settings.network.tags))
            network = ProposalNetwork(layers, settings.network)
            rates = sub_minibatches.measure(network, dataset, settings.training.batch_size, _ROUNDS)
            text, rows = statements.table(rates, sums, comm.size, phases, diagnostics, machine)
            for path in save_table(args.output, STATEMENTS, statements.TITLE, text, rows):
                say(str(path))
    return 0


def _figure5(args: argparse.Namespace) -> Any:
    from etalumis.experiments import figure5, training_record

    return figure5.draw(training_record.load_all(args.trainings))


def _learning_rates(args: argparse.Namespace) -> Any:
    from etalumis.experiments import learning_rates, training_record

    return learning_rates.draw(training_record.load_all(args.trainings))


def _optimizers(args: argparse.Namespace) -> Any:
    from etalumis.experiments import optimizers, training_record

    return optimizers.draw(training_record.load_all(args.trainings))


_DRAW: dict[str, Callable[[argparse.Namespace], Any]] = {
    "figure2": _figure2,
    "figure3": _figure3,
    "figure4": _figure4,
    "figure5": _figure5,
    "figure6": _figure6,
    "learning_rates": _learning_rates,
    "optimizers": _optimizers,
}
