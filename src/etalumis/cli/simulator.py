# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis simulator`: fetch the pinned Sherpa, build sherpa_tau, write its configuration file."""

import argparse
import logging
from pathlib import Path
from typing import Any

from etalumis.cli.logs import say
from etalumis.config import load
from etalumis.simulator import build_simulator, fetch_sherpa, write_simulator_config
from etalumis.simulator.checkout import cache_folder

logger = logging.getLogger(__name__)

_EPILOG = """\
examples:
  etalumis simulator fetch --config config/config.yaml
  etalumis simulator build --config config/config.yaml --output results/demo/simulator
  results/demo/simulator/bin/sherpa_tau --local 3 --config results/demo/simulator/sherpa_tau.conf
"""
_ACTIONS = {
    "fetch": """\
Fetch the pinned Sherpa wheel (checked by sha256) into the cache, unpack it, and print its prefix. Where the config sets
simulator.prefix, that installation is checked instead and nothing is fetched.
""",
    "build": """\
Fetch Sherpa if need be, build sherpa_tau against it with CMake, and fill the folder: bin/sherpa_tau, build.json (what
it was built from), sherpa_tau.conf (momentum ranges, noise, calorimeter). Needs a C++17 compiler.
""",
    "config": """\
Write sherpa_tau.conf anew into a folder that was built: all it takes after a change of noise_gev, momentum_gev or
calorimeter. Traces and observations made before the change do not belong to it any more.
""",
}


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    text = "fetch the pinned Sherpa and build sherpa_tau, the τ decay with its calorimeter"
    parser = subparsers.add_parser(
        "simulator",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. What is fetched and compiled is kept in $ETALUMIS_CACHE, "
        "or .cache in the checkout: a second call repeats no work.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fetch = _action(actions, "fetch", "fetch and unpack Sherpa, or check simulator.prefix; print the prefix")
    build = _action(actions, "build", "fetch if need be, build, write the configuration file and build.json")
    config = _action(actions, "config", "write the simulator's configuration file alone, into a folder that was built")
    for action in (fetch, build):
        action.add_argument("--cache", type=Path, metavar="DIR", help="where to keep what is fetched and compiled")
    for action in (build, config):
        action.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the simulator")
    build.add_argument("--build-dir", type=Path, metavar="DIR", help="CMake's build folder (default: in the cache)")


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=_ACTIONS[name],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="configuration, e.g. config/config.yaml"
    )
    return action


def run(args: argparse.Namespace) -> int:
    """Carry out the action that was asked for."""
    config = load(args.config).simulator
    if args.action != "config":
        cache = args.cache or cache_folder()
        prefix = fetch_sherpa(cache, Path(config.prefix) if config.prefix else None)
        if args.action == "fetch":
            say(str(prefix))
            return 0
        record = build_simulator(prefix, args.output, args.build_dir or cache / "build" / "sherpa")
        logger.info("Sherpa %s, simulator build %s", record["sherpa_version"], record["simulator_build_id"])
    write_simulator_config(config, args.output / "sherpa_tau.conf")
    return 0
