# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis network`: train the 3DCNN-LSTM under MPI, on traces or online, and describe a trained network."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalumis import config
from etalumis.cli.arguments import count
from etalumis.cli.logs import say
from etalumis.cli.termination import abort_all_ranks
from etalumis.counting import counted
from etalumis.errors import ConfigError, EtalumisError, NetworkError
from etalumis.progress import duration
from etalumis.simulator.built import BuiltSimulator

if TYPE_CHECKING:
    from mpi4py import MPI

    from etalumis.training.trace_stream import Simulation
    from etalumis.training.train import Outcome

logger = logging.getLogger(__name__)

INTERRUPTED = 143
"""Exit code after SIGTERM or Ctrl-C, as a shell reports it: the network is not finished."""

_EPILOG = "example:\n  R=results/demo\n"
_TRAIN_EXAMPLE = """\
  python -m etalumis.mpiexec -n 2 etalumis network train --config $R/config.yaml --layers $R/layers/layers.json \\
      --train $R/sorted/train --valid $R/sorted/valid --output $R/network --world-size 2
  etalumis network train --config $R/config.yaml --layers $R/layers/layers.json --train $R/sorted/train \\
      --valid $R/sorted/valid --start-from $R/network --output more/network
  etalumis network train --config $R/config.yaml --layers $R/layers/layers.json --simulator $R/simulator \\
      --valid $R/sorted/valid --output online/network
"""
_PLAN_EXAMPLE = """\
  etalumis network plan --config $R/config.yaml --layers $R/layers/layers.json --train $R/sorted/train
"""
_INFO_EXAMPLE = "  etalumis network info $R/network\n"
_PLAN = """\
Print what a training will take, without training: the parameters of the network by part, the memory of a rank and,
with --train, the time of a step on this machine, measured with a few steps of one rank, and of the whole training. It
assumes that no rank waits for another. `etalumis network train --dry-run` does the same with its own arguments.
"""
_TRAIN = """\
Train the network on sorted traces until the budget (training.max_minutes, training.max_traces) is spent; if both are
set, the limit that is reached first ends the training. DIR/checkpoint holds a resumable state: after an interruption,
the same command resumes. At the end, DIR contains manifest.json, tensors.pt, layers.json, history.csv and phases.h5
(time and work of every rank in every iteration).

With a larger budget, the command extends a finished training. The result is identical, bit for bit, to training with
the larger budget from the start if neither the learning rate nor the noise depends on the budget (schedule: none,
noise_ramp_share: 0), or if max_traces is set and only max_minutes is raised. Otherwise the schedules follow the larger
budget from that point on. With the same budget, the command trains from the beginning.

With --start-from, a finished network is trained on, for instance with more traces. The layer table may have new
addresses after those of the network (etalumis layers --grow). The known addresses keep their weights and, while the
checkpoint of that network is there, the state of their optimizer; budget, schedules and history begin anew.

With --simulator in place of --train, the training is online: every rank runs simulators of its own, and each trace is
used once. Make the layer table from the validation traces. An address that occurs for the first time becomes a layer
on all ranks (training.online_layers: growing), or its trace is discarded and counted (frozen). The traces depend on
run.seed only, not on the numbers of ranks and workers, so an interrupted training resumes bit for bit.
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "network", help="train the 3DCNN-LSTM under MPI", description="Train the network, or describe a trained one.",
        epilog=f"{_EPILOG}{_TRAIN_EXAMPLE}{_PLAN_EXAMPLE}{_INFO_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    train = actions.add_parser(
        "train", help="train under MPI", description=_TRAIN, epilog=f"{_EPILOG}{_TRAIN_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    train.add_argument("--layers", type=Path, required=True, metavar="FILE", help="layer table (etalumis layers)")
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument("--train", type=Path, metavar="PATH", help="sorted training traces")
    source.add_argument("--simulator", type=Path, metavar="DIR", help="built simulator, for an online training")
    train.add_argument(
        "--workers", type=count, default=1, metavar="N",
        help="with --simulator: number of simulator processes of each rank; does not affect the result "
        "(default: %(default)s)",
    )  # fmt: skip
    train.add_argument("--valid", type=Path, required=True, metavar="PATH", help="sorted validation traces")
    train.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the network")
    train.add_argument(
        "--start-from", type=Path, metavar="DIR", help="finished network that is trained on; default: a new one"
    )
    train.add_argument("--world-size", type=int, metavar="N", help="fail unless the number of MPI ranks is N")
    train.add_argument(
        "--force", action="store_true", help="overwrite a finished network that was trained with other data or settings"
    )
    train.add_argument(
        "--dry-run", action="store_true", help="print what the training will take, as `network plan`, and do not train"
    )
    planned = actions.add_parser(
        "plan", help="say what a training will take", description=_PLAN, epilog=f"{_EPILOG}{_PLAN_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    planned.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    planned.add_argument("--layers", type=Path, required=True, metavar="FILE", help="layer table (etalumis layers)")
    planned.add_argument("--train", type=Path, metavar="PATH", help="sorted training traces, for the times")
    info = actions.add_parser(
        "info", help="describe a network and its losses",
        description="Print the size of a network, its observation, the length of its training, and its loss next to\n"
        "that of the prior, in total and for each named draw. The loss of a network that has learned is smaller.",
        epilog=f"{_EPILOG}{_INFO_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    info.add_argument("network", type=Path, metavar="DIR", help="folder of a network, or its checkpoint")


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    if args.action == "info":
        return _info(args)
    return _plan(args) if args.action == "plan" or args.dry_run else _train(args)


def _train(args: argparse.Namespace) -> int:
    # mpi4py starts MPI when it is imported, and torch takes seconds: import them only here
    from mpi4py import MPI

    from etalumis.training.prepare import train

    comm = MPI.COMM_WORLD
    with failing_together(comm):
        settings = _load_to_train(args.config)
        with _traces(args, settings) as traces:
            outcome = train(
                settings, args.layers, traces, args.valid, args.output, comm, args.world_size, args.force,
                args.start_from,
            )  # fmt: skip
    return report_outcome(outcome, args.output, comm.rank)


def _load_to_train(path: Path) -> config.Config:
    """Read a configuration that trains a network; raise ConfigError if it uses another one."""
    settings = config.load(path)
    if settings.network.from_ is not None:
        raise ConfigError(
            f"{path}: network.from is {settings.network.from_}, a trained network to use in place of training; remove "
            "the key to train a network"
        )
    return settings


@contextmanager
def _traces(args: argparse.Namespace, settings: config.Config) -> Iterator[Path | Simulation]:
    """Give the training traces, or start the simulators of this rank."""
    if args.simulator is None:
        if args.workers > 1:
            raise NetworkError("--workers: belongs to --simulator; stored traces are read by the ranks themselves")
        yield args.train
        return
    from etalumis.training.trace_stream import Simulation

    built = BuiltSimulator(args.simulator, settings.simulator)
    with built.start(args.workers) as simulator:
        yield Simulation(simulator, built.build_id, built.config_digest)


def report_outcome(outcome: Outcome, output: Path, rank: int) -> int:
    """Log how a training ended, and return the exit code."""
    if not outcome.finished:
        logger.warning("training was interrupted; the same command resumes from %s", output / "checkpoint")
        return INTERRUPTED
    if rank == 0:
        last = outcome.state.history[-1]
        logger.info(
            "%s: %s in %s; validation loss %.3f nats per trace, prior %.3f",
            output, counted(outcome.state.traces, "trace"), counted(outcome.state.iteration, "iteration"),
            last.valid_loss, last.prior_loss,
        )  # fmt: skip
    return 0


@contextmanager
def failing_together(comm: MPI.Comm) -> Iterator[None]:
    """Abort all ranks if one fails: the others would wait for it in a collective call."""
    try:
        yield
    except BaseException as error:
        if comm.size > 1:
            if isinstance(error, EtalumisError | OSError):
                logger.error("rank %d: %s", comm.rank, error, extra={"whole": True})
            else:
                logger.critical("rank %d: unexpected error", comm.rank, exc_info=error)
            abort_all_ranks(comm)
        raise


def _plan(args: argparse.Namespace) -> int:
    from mpi4py import MPI

    from etalumis import job_costs
    from etalumis.layers import LayerTable
    from etalumis.network.model import ProposalNetwork
    from etalumis.training import dry_run, prepare

    if MPI.COMM_WORLD.rank:
        return 0
    settings = _load_to_train(args.config)
    training = settings.training
    layers = prepare.observed_layers(LayerTable.load(args.layers), settings, args.layers)
    network = ProposalNetwork(layers, settings.network)
    say(f"parameters     {network.parameter_count():,}")
    for part, number in dry_run.parameters_by_part(network).items():
        say(f"  {part:<25} {number:>13,}")
    memory = job_costs.rank_memory_mb(settings, network.parameter_count())
    say(f"memory         about {memory:,.0f} MB for each of {counted(training.tasks, 'rank')}")
    if args.train is None:
        say("step           not measured: give stored traces with --train")
        return 0
    traces = prepare.open_dataset(args.train, settings, layers)
    seconds = dry_run.step_s(network, traces, len(traces), training)
    rate = training.tasks * training.batch_size / seconds
    say(f"step           {seconds:.3g} s for {counted(training.batch_size, 'trace')}, on one rank of this machine")
    budgets = []
    if training.max_minutes is not None:
        budgets.append((60 * training.max_minutes, 60 * training.max_minutes * rate))
    if training.max_traces is not None:
        budgets.append((training.max_traces / rate, float(training.max_traces)))
    spent_s, seen = min(budgets)
    epochs = seen / len(traces)
    say(f"training       {duration(spent_s)}: {seen:,.0f} traces, {epochs:.1f} epochs, {rate:,.0f} traces/s")
    return 0


def _info(args: argparse.Namespace) -> int:
    from etalumis.network.checkpoint import read_manifest

    manifest = read_manifest(args.network)
    training = manifest["training"]
    say(f"addresses      {manifest['addresses']:,}")
    say(f"parameters     {manifest['parameters']:,}")
    # version 1 has one observation, without the name of its embedding
    for observed in manifest.get("observations") or [manifest["observation"]]:
        shape = " x ".join(str(extent) for extent in observed["shape"]) or "a number"
        shift, scale = observed["shift"], observed["scale"]
        units = "each element by its own scale" if isinstance(shift, list) else f"as (y - {shift:g}) / {scale:g}"
        embedding = f", {observed['embedding']}" if "embedding" in observed else ""
        say(f"observation    {observed['name']} ({shape}), read {units}{embedding}")
    state = training.get("state", training)
    say(f"trained        {counted(state['traces'], 'trace')} in {state['elapsed_s'] / 60:.1f} minutes")
    if "valid_loss" in training:
        say(f"loss           {training['valid_loss']:.3f} nats per trace (prior {training['prior_loss']:.3f})")
        for name, part in training["valid_by_name"].items():
            say(f"  {name:<12} {part['loss']:.3f} nats per entry (prior {part['prior_loss']:.3f})")
    return 0
