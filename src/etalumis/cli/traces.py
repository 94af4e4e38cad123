# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis traces`: generate, sort, inspect and verify trace files; take one trace as the observation."""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from etalumis.cli.logs import say
from etalumis.cli.workers import add_workers, started
from etalumis.config import load
from etalumis.errors import ConfigError, EtalumisError
from etalumis.paths import SPLITS
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces.format import Provenance
from etalumis.workflow import trace_jobs

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Trace files: what the simulator drew, run by run, in HDF5 columns (docs/file-formats.md).
"""
_EPILOG = """\
examples:
  R=results/demo
  etalumis traces generate --config $R/config.yaml --simulator $R/simulator --split train --part 0 \\
      --output $R/traces/train-000.h5
  mpiexec -n 2 etalumis traces sort --config $R/config.yaml --input $R/traces/train-*.h5 --output $R/sorted/train
  etalumis traces info $R/sorted/train
  etalumis traces verify $R/traces/*.h5
  etalumis traces observation --input $R/traces/test-000.h5 --trace 0 --seed 1 --output $R/observation/observation.h5
  etalumis traces observation --measured deposits.txt --name deposits --output measured.h5
"""
_ACTIONS = {
    "generate": """\
Run the simulator from its prior and record every draw. The split's traces (config section traces) are shared evenly
among its jobs; --part says which share this one makes. Called again after an interruption it goes on after the last
finished piece of 500 traces (FILE.part); trace number i is the same whatever happened.
""",
    "sort": """\
Sort traces by type (the most frequent one first) and length into shards, in bounded memory (sorted.memory_mb). Under
mpiexec all ranks share the work, and the shards are the same for any number of ranks.
""",
    "info": "Show what trace files hold: how many traces, types, addresses, lengths, sizes, and where they come from.",
    "verify": """\
Check trace files through and through: checksums of every column, structure, trace types and log priors against the
entries. Exit code 0 says that everything is in order.
""",
    "observation": """\
Take one held-out trace as the observation to explain: draw its detector noise from --seed, and keep the truth (tags,
named draws) beside it for the figures. No engine looks at the truth. Or, with --measured, take real data: numbers as
text, or an array in a file .npy, of the shape that the simulator observes under --name.
""",
}


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "traces", help="run the simulator from its prior and record it: generate, sort, info, verify, observation",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    _register_generate(actions)
    _register_sort(actions)
    _register_readers(actions)
    _register_observation(actions)


def _add(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=_ACTIONS[name],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _register_generate(actions: Any) -> None:
    parser = _add(
        actions, "generate", "run the simulator from its prior and record it; an interrupted call goes on where it was"
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    parser.add_argument("--simulator", type=Path, required=True, metavar="DIR", help="folder of the built simulator")
    parser.add_argument("--split", choices=SPLITS, required=True, help="what the traces are for")
    parser.add_argument("--part", type=int, default=0, metavar="N", help="number of this job (default 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="trace file to write")
    add_workers(parser)


def _register_sort(actions: Any) -> None:
    parser = _add(actions, "sort", "sort traces by type and length into shards; under mpiexec all ranks share the work")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    parser.add_argument("--input", type=Path, nargs="+", required=True, metavar="FILE", help="trace files")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for shards and index.json")
    parser.add_argument("--world-size", type=int, metavar="N", help="fail unless there are N MPI ranks")


def _register_readers(actions: Any) -> None:
    for name, text in (
        ("info", "show what trace files hold: types, addresses, lengths, sizes"),
        ("verify", "check trace files through and through: checksums, structure, trace types, log priors"),
    ):
        parser = _add(actions, name, text)
        parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="trace files or sorted folders")


def _register_observation(actions: Any) -> None:
    parser = _add(actions, "observation", "take one held-out trace and draw its noise, or take measured data")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", type=Path, nargs="+", metavar="FILE", help="held-out traces")
    source.add_argument("--measured", type=Path, metavar="FILE", help="measured numbers, text or .npy; wants --name")
    parser.add_argument("--trace", type=int, metavar="N", help="number of the trace, from 0; with --input")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the noise; with --input")
    parser.add_argument("--name", metavar="NAME", help="observe statement; needed where there are several")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="observation file to write")


def run(args: argparse.Namespace) -> int:
    """Carry out the action that was asked for."""
    action = {
        "generate": _generate, "sort": _sort, "info": _info, "verify": _verify, "observation": _observation,
    }[args.action]  # fmt: skip
    action(args)
    return 0


def _generate(args: argparse.Namespace) -> None:
    from etalumis.traces.generate import generate

    config = load(args.config)
    total, parts = getattr(config.traces, args.split), trace_jobs(config, args.split)
    if not 0 <= args.part < parts:
        raise ConfigError(f"--part {args.part}: the split {args.split!r} has {parts} parts, numbered from 0")
    first, stop = (total * part // parts for part in (args.part, args.part + 1))
    built = BuiltSimulator(args.simulator, config.simulator)
    with started(built, args.workers, args.pin) as simulator:
        provenance = Provenance(
            model=simulator.name,
            config_digest=built.config_digest,
            simulator_build_id=built.build_id,
            run_seed=config.run.seed,
            split=args.split,
            part=args.part,
            noise=built.noise,
            settings=json.dumps(built.settings),
        )
        generate(simulator, args.output, provenance, first, stop - first, config.simulator.retries)
    say(str(args.output))


def _sort(args: argparse.Namespace) -> None:
    # importing MPI starts it, which only this action wants
    from mpi4py import MPI

    from etalumis.traces.sort import sort

    comm = MPI.COMM_WORLD
    if args.world_size is not None and comm.size != args.world_size:
        raise ConfigError(
            f"--world-size {args.world_size}: there are {comm.size} MPI ranks; start it with "
            f"`mpiexec -n {args.world_size}` of the MPI library that mpi4py was built with"
        )
    if comm.rank > 0:
        logging.getLogger("etalumis").setLevel(logging.WARNING)
    config = load(args.config)
    try:
        sort(args.input, args.output, config.traces.shard_traces, config.sorted.memory_mb, comm)
    except EtalumisError:
        raise  # on all ranks alike
    except BaseException as error:
        # the other ranks wait for this one for ever, unless they are ended too
        if isinstance(error, Exception):
            logger.critical("rank %d: unexpected error", comm.rank, exc_info=True)
        else:
            logger.error("rank %d: interrupted; the same command goes on where it was", comm.rank)
        if comm.size > 1:
            comm.Abort(1)
        raise
    if comm.rank == 0:
        say(str(args.output / "index.json"))


def _info(args: argparse.Namespace) -> None:
    from etalumis.traces.info import render, summarise

    say(render(summarise(args.paths)))


def _verify(args: argparse.Namespace) -> None:
    from etalumis.traces.verify import verify

    count = verify(args.paths)
    say(f"{count:,} traces, everything in order")


def _observation(args: argparse.Namespace) -> None:
    from etalumis.traces import observation
    from etalumis.traces.reader import TraceDataset

    if args.measured is not None:
        if args.name is None:
            raise ConfigError("--measured wants --name, the observe statement that the numbers belong to")
        drawn = observation.measured(args.measured, args.name)
        logger.info("%s: %r of %s, shape %s", args.output, drawn.name, drawn.source, drawn.value.shape)
    else:
        if args.trace is None or args.seed is None:
            raise ConfigError("--input wants --trace, the number of the trace, and --seed, of its noise")
        drawn = observation.draw(TraceDataset(args.input), args.trace, args.seed, args.name)
        logger.info("%s: %r of %s, noise seed %d", args.output, drawn.name, drawn.source, drawn.seed)
    observation.save(drawn, args.output)
    say(str(args.output))
