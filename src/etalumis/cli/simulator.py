# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis simulator`: fetch the pinned Sherpa, build sherpa_tau, or couple your own simulator."""

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etalumis.cli.arguments import count
from etalumis.cli.logs import say
from etalumis.config import load
from etalumis.counting import counted
from etalumis.models.frontend import OLD_ORDER
from etalumis.ppx import Simulator
from etalumis.products import check_output_file, check_output_folder
from etalumis.simulator import build_simulator, fetch_sherpa, write_simulator_config
from etalumis.simulator.build import BUILD_FORMAT
from etalumis.simulator.checkout import cache_folder
from etalumis.simulator.cmake import sherpa_build_folder
from etalumis.simulator.couple import record_of, write_record
from etalumis.simulator.replay_check import CouplingReport, check_replay

logger = logging.getLogger(__name__)

_EXAMPLES = {
    "fetch": """\
  etalumis simulator fetch --config config/config.yaml
""",
    "build": """\
  etalumis simulator build --config config/config.yaml --output results/demo/simulator
  results/demo/simulator/bin/sherpa_tau --local 3 --config results/demo/simulator/sherpa_tau.conf
""",
    "config": """\
  etalumis simulator config --config config/config.yaml --output results/demo/simulator
""",
    "couple": """\
  etalumis simulator couple --output muon -- build/muon {endpoint}
""",
}
_ACTIONS = {
    "fetch": """\
Download the pinned Sherpa wheel (checked by sha256) into the cache, unpack it, and print its prefix. If the
configuration sets simulator.prefix, check that installation instead.
""",
    "build": """\
Download Sherpa if necessary, build sherpa_tau against it with CMake, and write the folder: bin/sherpa_tau, build.json
(the record of its inputs), sherpa_tau.conf (momentum ranges, noise, calorimeter). Requires a C++17 compiler.
""",
    "config": """\
Rewrite sherpa_tau.conf in the folder of a built simulator, after a change of noise_gev, momentum_gev or calorimeter.
Traces and observations from before the change no longer belong to this simulator.
""",
    "couple": """\
Couple your own simulator: any command that serves PPX. Write the command after `--`, with {endpoint} in place of the
endpoint on which it must listen. `couple` runs the simulator from its prior and replays all runs in a fresh process, in
another order. If a replay differs, the simulator is refused. Otherwise `couple` lists its draws, observations and tags
and writes DIR/build.json; the other verbs then take DIR as --simulator. The checksums of the program, of arguments that
are files, and of the files given with --depends-on identify the simulator: if one of them changes, it is a different
simulator.
""",
}


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    text = "build Sherpa's τ decay with its calorimeter, or couple your own simulator"
    parser = subparsers.add_parser(
        "simulator",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.\nDownloads and builds are kept in $ETALUMIS_CACHE, "
        "or .cache in the checkout, and reused by the next call.",
        epilog=f"examples:\n{''.join(_EXAMPLES.values())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    fetch = _action(actions, "fetch", "fetch and unpack Sherpa, or check simulator.prefix; print the prefix")
    build = _action(
        actions, "build", "fetch Sherpa if necessary, build sherpa_tau, write its configuration file and build.json"
    )
    config = _action(actions, "config", "rewrite the configuration file in the folder of a built simulator")
    for action in (fetch, build, config):
        action.add_argument(
            "--config", type=Path, required=True, metavar="FILE", help="configuration, e.g. config/config.yaml"
        )
    couple = _action(actions, "couple", "check that inference can control a command that serves PPX, and record it")
    for action in (fetch, build):
        action.add_argument(
            "--cache",
            type=Path,
            metavar="DIR",
            help="folder for downloads and builds (default: $ETALUMIS_CACHE, or .cache in the checkout)",
        )
    for action in (build, config, couple):
        action.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the simulator")
    for action in (build, couple):
        action.add_argument(
            "--force",
            action="store_true",
            help="overwrite DIR/build.json even if it belongs to another kind of simulator",
        )
    build.add_argument("--build-dir", type=Path, metavar="DIR", help="CMake's build folder (default: in the cache)")
    couple.add_argument(
        "--depends-on",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="further files whose checksums identify the simulator",
    )
    couple.add_argument(
        "--runs",
        type=count,
        default=20,
        metavar="N",
        help="prior runs to replay; hidden state is found if it shows in one of them (default: %(default)s)",
    )
    couple.add_argument("command", nargs="+", metavar="COMMAND", help="program and arguments, after `--`")


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=_ACTIONS[name],
        epilog=f"examples:\n{_EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return action


def run(args: argparse.Namespace) -> int:
    """Run the requested action."""
    if args.action == "couple":
        _couple(args)
        return 0
    config = load(args.config).simulator
    if args.action != "config":
        cache = args.cache or cache_folder()
        if args.action == "build":
            _check_output(args, coupled=False)
        prefix = fetch_sherpa(cache, Path(config.prefix) if config.prefix else None)
        if args.action == "fetch":
            say(str(prefix))
            return 0
        record = build_simulator(prefix, args.output, args.build_dir or sherpa_build_folder(cache))
        logger.info("Sherpa %s, simulator build %s", record["sherpa_version"], record["simulator_build_id"])
    write_simulator_config(config, args.output / "sherpa_tau.conf")
    return 0


def _check_output(args: argparse.Namespace, *, coupled: bool) -> None:
    """Check that the folder can be written, and that it is not that of a simulator of the other kind."""

    def difference(path: Path) -> str | None:
        found = "command" in json.loads(path.read_text(encoding="utf-8"))
        return None if found == coupled else f"is the record of a {'coupled' if found else 'built'} simulator"

    check_output_folder(args.output)
    record = args.output / "build.json"
    if record.exists():
        check_output_file(record, str(BUILD_FORMAT["format"]), force=args.force, difference=difference)


def _couple(args: argparse.Namespace) -> None:
    _check_output(args, coupled=True)
    with Simulator(args.command) as simulator:
        report = check_replay(simulator, Path(args.command[0]).name, args.runs)
        name = simulator.name
        deprecated = simulator.lines_with(OLD_ORDER)
    write_record(record_of(args.command, name, args.depends_on), args.output)
    for line in _lines(name, report):
        say(line)
    for names in report.look_alikes:
        logger.warning("%s are different names, although they look the same", " and ".join(map(ascii, names)))
    for limit in report.storage_limits:
        logger.warning(
            "`etalumis traces generate` will refuse runs of %s (RMH and importance sampling do not): %s", name, limit
        )
    for line in deprecated:  # a warning of the process, whose output is not shown
        logger.warning("%s", line)
    if report.unnamed_functions:
        logger.warning(
            "%d of %d addresses contain functions without a name, and change whenever the program is compiled: link it "
            "with -rdynamic (the CMake target ppx::ppx and `pkg-config --libs ppx` do), and declare no function that "
            "draws static or in an anonymous namespace",
            len(report.unnamed_functions), len(report.addresses),
        )  # fmt: skip
    if not report.observes:
        logger.warning("%s has no observe statement: inference has nothing to condition on", name)


def _lines(name: str, report: CouplingReport) -> Iterator[str]:
    drawn = f"{counted(report.runs, 'run')}, {counted(report.draws, 'draw')}"
    yield f"{name}: {drawn}; all replays in a fresh process were identical"
    yield "  draws  address"
    for address, (label, scoped, controlled, draws) in report.addresses.items():
        about = [f"name {label!r}"] * bool(label) + ["rejection loop"] * scoped + ["uncontrolled"] * (not controlled)
        yield f"  {draws:5d}  {address}" + (f"  ({', '.join(about)})" if about else "")
    for observed, law in report.observes.items():
        yield f"  observes {observed!r}: {law}"
    if report.tags:
        yield f"  tags {', '.join(repr(tag) for tag in report.tags)}"
