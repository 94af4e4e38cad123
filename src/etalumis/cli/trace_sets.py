# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Actions of `etalumis traces` that make one set of traces from others: sort, merge, split, convert."""

import argparse
import logging
from pathlib import Path

from etalumis.cli.arguments import count
from etalumis.cli.logs import say
from etalumis.cli.termination import abort_all_ranks
from etalumis.config import Config, load
from etalumis.counting import counted
from etalumis.errors import ConfigError, EtalumisError

logger = logging.getLogger(__name__)

MIN_MEMORY_MB = 100

DESCRIPTIONS = {
    "sort": """\
Sort traces by type (most frequent first) and length into shards, in bounded memory. Under mpiexec all ranks share the
work; the shards depend neither on the number of ranks nor on the grouping of the inputs. After an interruption, the
same command resumes.
""",
    "merge": """\
Add traces to a sorted set, or merge sorted sets, into a new sorted set. It is identical, byte for byte, to sorting all
traces at once. Inputs that are already sorted are read once and written once. The inputs are not changed.
""",
    "split": """\
Divide traces into sets such as train, valid and test: DIR/NAME.h5 for each --share NAME=SHARE. The set of a trace
depends only on --seed and on its own seed, so adding traces later does not move the others.
""",
    "convert": """\
Import traces of another program from the plain layout (one .h5 or .npz file with one array per key, see
docs/file-formats.md). All content is checked; trace types and log prior densities are computed. With --to-plain,
export traces to that layout, with dense observations.
""",
}
EXAMPLES = {
    "sort": """\
  python -m etalumis.mpiexec -n 2 etalumis traces sort --config $R/config.yaml \\
      --input $R/traces/train-*.h5 --output $R/sorted/train
  etalumis traces sort --shard-traces 100000 --memory 4000 --input more/*.h5 --output more/sorted
""",
    "merge": """\
  etalumis traces merge --config $R/config.yaml --input $R/sorted/train more/sorted --output larger/sorted
""",
    "split": """\
  etalumis traces split --input all/*.h5 --share train=0.98 valid=0.01 test=0.01 --seed 1 --output parts
""",
    "convert": """\
  etalumis traces convert --input foreign.npz --model my_detector --output foreign-traces.h5
  etalumis traces convert --to-plain --input $R/sorted/valid --output plain.h5
""",
}


def register(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one of these actions to its parser."""
    {"sort": _register_sort, "merge": _register_sort, "split": _register_split, "convert": _register_convert}[name](
        parser
    )


def _register_sort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input", type=Path, nargs="+", required=True, metavar="PATH", help="trace files, sorted folders, index files"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder: shards and index.json")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration, for traces.shard_traces and sorted.memory_mb"
    )
    parser.add_argument("--shard-traces", type=count, metavar="N", help="traces per shard (default: from --config)")
    parser.add_argument(
        "--memory", type=count, metavar="MB",
        help=f"maximum memory of a rank (default: from --config, or {Config().sorted.memory_mb:,})",
    )  # fmt: skip
    _add_mix(parser)
    parser.add_argument("--world-size", type=count, metavar="N", help="fail unless the number of MPI ranks is N")


def _add_mix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mix", action="store_true",
        help="accept traces of different simulator builds or configurations as one set",
    )  # fmt: skip


def _register_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input", type=Path, nargs="+", required=True, metavar="PATH", help="trace files, sorted folders, index files"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="new folder, with one trace file per split"
    )
    parser.add_argument(
        "--share", type=_share, nargs="+", required=True, metavar="NAME=SHARE", help="splits, with shares that sum to 1"
    )
    parser.add_argument(
        "--seed",
        type=int,
        required=True,
        metavar="S",
        help="seed of the assignment: the same S always gives the same splits",
    )
    _add_mix(parser)


def _register_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input", type=Path, nargs="+", required=True, metavar="PATH",
        help="a plain .h5 or .npz file; with --to-plain trace files, sorted folders, index files",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write; it must not exist")
    parser.add_argument("--to-plain", action="store_true", help="export trace files to the plain layout")
    parser.add_argument("--model", metavar="NAME", help="name of the model, if the plain file does not contain it")
    parser.add_argument("--split", metavar="NAME", help="split that the traces belong to, such as train")
    parser.add_argument(
        "--seed", type=int, metavar="S",
        help="seed for traces without seeds; use a different S for each part of a set (default: 0)",
    )  # fmt: skip
    _add_mix(parser)


def _share(text: str) -> tuple[str, float]:
    name, equals, share = text.partition("=")
    try:
        if name and equals:
            return name, float(share)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected NAME=SHARE, such as valid=0.01, found {text}")


def sort(args: argparse.Namespace) -> None:
    """Sort or merge, alone or under MPI."""
    # importing MPI initialises it, which only these actions need
    from mpi4py import MPI

    from etalumis.traces.sorting.sort import sort

    comm = MPI.COMM_WORLD
    if args.world_size is not None and comm.size != args.world_size:
        raise ConfigError(
            f"--world-size {args.world_size}: expected this number of MPI ranks, found {comm.size}; start it with "
            f"`python -m etalumis.mpiexec -n {args.world_size} etalumis traces ...`, or on a cluster with the launcher "
            "of the MPI library that mpi4py uses"
        )
    if comm.rank > 0:
        logging.getLogger("etalumis").setLevel(logging.WARNING)
    shard_traces, memory_mb = _sizes(args)
    try:
        sort(args.input, args.output, shard_traces, memory_mb, comm, args.mix)
    except EtalumisError:
        raise  # raised on all ranks
    except BaseException as error:
        if comm.size > 1:  # otherwise the other ranks would wait for this one indefinitely
            if isinstance(error, OSError):
                logger.error("rank %d: %s", comm.rank, error)
            elif isinstance(error, Exception):
                logger.critical("rank %d: unexpected error", comm.rank, exc_info=True)
            else:
                logger.error("rank %d: interrupted; the same command resumes", comm.rank)
            abort_all_ranks(comm)
        raise
    if comm.rank == 0:
        say(str(args.output / "index.json"))


def _sizes(args: argparse.Namespace) -> tuple[int, int]:
    """Return (traces per shard, MB of memory)."""
    config = load(args.config) if args.config is not None else None
    if args.shard_traces is None and config is None:
        raise ConfigError("the number of traces per shard is missing: give --shard-traces N, or a --config")
    if args.memory is not None and args.memory < MIN_MEMORY_MB:
        raise ConfigError(f"--memory {args.memory}: expected {MIN_MEMORY_MB} MB or more")
    settings = config if config is not None else Config()
    return args.shard_traces or settings.traces.shard_traces, args.memory or settings.sorted.memory_mb


def split(args: argparse.Namespace) -> None:
    """Divide traces into sets."""
    from etalumis.traces.split import split

    shares = dict(args.share)
    if len(shares) != len(args.share):
        raise ConfigError(f"--share {' '.join(f'{n}={s:g}' for n, s in args.share)}: expected unique names")
    counts = split(args.input, args.output, shares, args.seed, args.mix)
    total = sum(counts.values())
    for name, number in counts.items():
        say(f"{args.output / f'{name}.h5'}  {counted(number, 'trace')} ({number / total:.2%})")


def convert(args: argparse.Namespace) -> None:
    """Import traces of another program, or export traces."""
    if args.to_plain:
        from etalumis.traces.plain.export import to_plain

        for option in ("model", "split", "seed"):
            if getattr(args, option) is not None:
                raise ConfigError(f"--{option} is for import from the plain layout; it cannot be used with --to-plain")
        number = to_plain(args.input, args.output, args.mix)
    else:
        from etalumis.traces.plain.convert import from_plain

        if len(args.input) != 1:
            raise ConfigError(f"--input: expected one plain file, found {len(args.input)}; convert them one by one")
        number = from_plain(args.input[0], args.output, args.model, args.split, args.seed or 0)
    say(f"{args.output}  {counted(number, 'trace')}")
