# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis traces`: generate, inspect and verify trace files, and create observations."""

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from etalumis.cli import trace_sets
from etalumis.cli.logs import say
from etalumis.cli.workers import add_workers, started
from etalumis.config import load
from etalumis.counting import counted
from etalumis.errors import ConfigError
from etalumis.files import require_writable
from etalumis.paths import SPLITS
from etalumis.products import check_output_file
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces.format import Provenance
from etalumis.workflow import trace_jobs, traces_section

logger = logging.getLogger(__name__)

_HELP = "run the simulator from its prior and record it; sort, merge, split, convert and verify traces"
_DESCRIPTION = """\
Trace files hold the draws of simulator runs as HDF5 columns (docs/file-formats.md,
docs/how-to-keep-a-trace-dataset.md).
"""
_R = "  R=results/demo\n"
_TEXTS = {
    "generate": "run the simulator from its prior and record it; an interrupted call resumes",
    "sort": "sort traces by type and length into shards, in parallel under mpiexec",
    "merge": "add traces to a sorted set, or merge sorted sets",
    "split": "divide traces into sets such as train, valid and test by their seeds",
    "convert": "import traces of another program from the plain layout, or export traces to it",
    "info": "summarise trace files: types, addresses, lengths, sizes; plot them with --figure",
    "verify": "verify trace files completely: checksums, structure, trace types, log priors, order",
    "observation": "create an observation from a held-out trace, with noise, or from measured data",
}
_ACTIONS = {
    "generate": """\
Run the simulator from its prior and record every draw. The traces of a split (config section traces) are divided
evenly among its jobs; --part selects the job. The keys traces.entries, traces.observation and traces.tags determine
what is stored of each trace. Trace number i does not depend on the number of workers and jobs. After an interruption,
even by kill -9, the same command resumes from a journal (FILE.part) that is at most a second old.
""",
    **trace_sets.DESCRIPTIONS,
    "info": """\
Summarise trace files: number of traces, types and addresses; lengths; bytes per trace by column group; provenance;
histograms. --json prints everything as JSON, --figure plots the frequencies of trace types and lengths.
""",
    "verify": """\
Verify trace files completely: checksums of all columns, structure, finite values in the support of their priors, trace
types and log priors against the entries; for a sorted set also the order across shards, duplicates, and the index.
All bad files are listed. The exit code is 0 if there are none. --quick checks headers, structure and index only,
without reading traces.
""",
    "observation": """\
Create an observation from one held-out trace: draw its detector noise with --seed, and store the truth (tags, named
draws) for the figures. No engine uses the truth. With --measured, use real data instead: numbers in a text file, or an
array in an .npy file, with the shape that the simulator observes under --name.
""",
}
_EXAMPLES = {
    "generate": """\
  etalumis traces generate --config $R/config.yaml --simulator $R/simulator --split train --part 0 \\
      --output $R/traces/train-000.h5
""",
    **trace_sets.EXAMPLES,
    "info": """\
  etalumis traces info $R/sorted/train
  etalumis traces info $R/traces/*.h5 --json --figure frequency.pdf
""",
    "verify": """\
  etalumis traces verify $R/traces/*.h5 $R/sorted/train
""",
    "observation": """\
  etalumis traces observation --input $R/traces/test-000.h5 --trace 0 --seed 1 --output $R/observation/observation.h5
  etalumis traces observation --measured deposits.txt --name deposits --output measured.h5
""",
}
_FIGURE_FORMATS = ("png", "pdf", "svg")


def register(subparsers: Any) -> None:
    """Add the parser of the verb."""
    parser = subparsers.add_parser(
        "traces", help=_HELP, description=_DESCRIPTION, epilog=f"examples:\n{_R}{''.join(_EXAMPLES.values())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for name, text in _TEXTS.items():
        examples = _EXAMPLES[name]
        action = actions.add_parser(
            name, help=text, description=_ACTIONS[name],
            epilog=f"examples:\n{_R if '$R' in examples else ''}{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        if name in trace_sets.DESCRIPTIONS:
            trace_sets.register(name, action)
        else:
            {
                "generate": _register_generate, "info": _register_info, "verify": _register_verify,
                "observation": _register_observation,
            }[name](action)  # fmt: skip


def _register_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration")
    parser.add_argument("--simulator", type=Path, required=True, metavar="DIR", help="folder of the built simulator")
    parser.add_argument("--split", choices=SPLITS, required=True, help="split that the traces belong to")
    parser.add_argument("--part", type=int, default=0, metavar="N", help="number of this job (default: 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="trace file to write")
    add_workers(parser)


def _register_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="trace files or sorted folders")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="plot the frequencies of trace types and lengths: .png, .pdf or .svg",
    )
    parser.add_argument("--mix", action="store_true", help="accept different simulator builds and configurations")


def _register_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="trace files or sorted folders")
    parser.add_argument("--quick", action="store_true", help="check headers, structure and index only")


def _register_observation(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", type=Path, nargs="+", metavar="FILE", help="held-out traces")
    source.add_argument(
        "--measured", type=Path, metavar="FILE", help="measured numbers, as text or .npy; requires --name"
    )
    parser.add_argument("--trace", type=int, metavar="N", help="number of the trace, from 0; with --input")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the noise; with --input")
    parser.add_argument(
        "--name", nargs="+", default=[], metavar="NAME", help="observe statements to keep (default with --input: all)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="observation file to write")
    parser.add_argument("--force", action="store_true", help="overwrite FILE even if it is another finished product")


def run(args: argparse.Namespace) -> int:
    """Run the requested action."""
    action = {
        "generate": _generate, "sort": trace_sets.sort, "merge": trace_sets.sort, "split": trace_sets.split,
        "convert": trace_sets.convert, "info": _info, "verify": _verify, "observation": _observation,
    }[args.action]  # fmt: skip
    action(args)
    return 0


def _generate(args: argparse.Namespace) -> None:
    from etalumis.traces.recording.generate import generate
    from etalumis.traces.recording.recording import Recording

    config = load(args.config)
    total, parts = getattr(config.traces, args.split), trace_jobs(config, args.split)
    if not 0 <= args.part < parts:
        raise ConfigError(f"--part {args.part}: the split {args.split!r} has {counted(parts, 'part')}, numbered from 0")
    first, stop = (total * part // parts for part in (args.part, args.part + 1))
    require_writable(args.output, "trace file")
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
        section = traces_section(config, args.split)
        recording = Recording(section.entries, section.observation, section.tags)
        generate(simulator, args.output, provenance, first, stop - first, config.simulator.retries, recording)
    say(str(args.output))


def _info(args: argparse.Namespace) -> None:
    from etalumis.traces.info import summarise
    from etalumis.traces.info_text import render

    ending = args.figure.suffix.removeprefix(".") if args.figure is not None else None
    if ending is not None and ending not in _FIGURE_FORMATS:
        raise ConfigError(f"--figure {args.figure}: expected a name that ends in .png, .pdf or .svg")
    if ending is not None:
        require_writable(args.figure, "figure")
    summary = summarise(args.paths, args.mix)
    say(json.dumps(summary.as_dict(), indent=2) if args.json else render(summary))
    if ending is not None:
        # drawing takes seconds to import
        from etalumis.figures import frequency, style

        counts = np.array(list(summary.types.values()), np.int64)
        drawing = frequency.draw_counts(counts, summary.lengths, "Trace types and trace lengths")
        style.save(replace(drawing, stem=args.figure.stem), args.figure.parent, [ending])
        logger.info("%s: %s", args.figure, drawing.caption)


def _verify(args: argparse.Namespace) -> None:
    from etalumis.traces.checking.verify import verify

    number = verify(args.paths, args.quick)
    checked = "headers and structure" if args.quick else "everything"
    say(f"{counted(number, 'trace')}, {checked} in order")


def _observation(args: argparse.Namespace) -> None:
    from etalumis.traces import observation
    from etalumis.traces.reading.dataset import TraceDataset

    require_writable(args.output, "observation file")
    if args.measured is not None:
        if len(args.name) != 1:
            raise ConfigError("--measured requires one --name, the observe statement that the numbers belong to")
        drawn = observation.measured(args.measured, args.name[0])
        logger.info("%s: %s of %s", args.output, drawn, drawn.source)
    else:
        if args.trace is None or args.seed is None:
            raise ConfigError("--input requires --trace, the number of the trace, and --seed, that of its noise")
        drawn = observation.draw(TraceDataset(args.input), args.trace, args.seed, args.name)
        logger.info("%s: %s of %s, noise seed %d", args.output, drawn, drawn.source, drawn.seed)
    check_output_file(args.output, observation.FORMAT, force=args.force, difference=drawn.difference)
    observation.save(drawn, args.output)
    say(str(args.output))
