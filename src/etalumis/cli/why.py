# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis why`: why jobs of the workflow would rerun, or not."""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etalumis import reruns
from etalumis.cli.logs import say
from etalumis.config import DEFAULT_FILE, Config, load, read
from etalumis.counting import counted
from etalumis.errors import ConfigError
from etalumis.paths import Paths
from etalumis.provenance import software
from etalumis.provenance.record import ENDING, read_record
from etalumis.workflow import paths_of

_DESCRIPTION = """\
Say which jobs of the workflow would run now, and why: which keys of the configuration have changed, with the old and
the new value; what is missing or newer. Then say why the others would not: keys that have changed since the last run
without an effect on any product, and products made by a different version of the code, which Snakemake does not see.

Nothing is run or written. Call it in the root of the checkout.
"""
_EPILOG = """\
examples:
  etalumis why
  etalumis why network --config 'training={max_minutes: 20}'
  etalumis why --configfile config/test.yaml
"""


def register(subparsers: Any) -> None:
    """Add the verb's parser."""
    parser = subparsers.add_parser(
        "why", help="say why jobs of the workflow would rerun, or not",
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="rule or file (default: all)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="as for snakemake")
    parser.add_argument(
        "--config", nargs="+", action="extend", default=[], metavar="SECTION={KEY: VALUE}", help="as for snakemake"
    )


def run(args: argparse.Namespace) -> int:
    """Print the reasons."""
    config = read(args.configfile or [DEFAULT_FILE], args.config)
    found = reruns.parse(_dry_run(args))
    for rerun in found:
        for line in rerun.lines():
            say(line)
    if not found:
        say("nothing would run")
    for line in _why_not(config, found):
        say(line)
    return 0


def _dry_run(args: argparse.Namespace) -> str:
    """Return the output of Snakemake's dry run.

    Raises
    ------
    ConfigError
        If Snakemake refuses; the message is its own.
    """
    words = [*args.targets, "--dry-run", "--cores", "1"]
    words += ["--configfile", *map(str, args.configfile)] if args.configfile else []
    words += ["--config", *args.config] if args.config else []
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ConfigError(f"snakemake --dry-run failed:\n{done.stdout.strip()[-3000:]}")
    return done.stdout


def _why_not(config: Config, found: Sequence[reruns.Rerun]) -> Iterator[str]:
    paths = paths_of(config)
    if paths.config.is_file():
        read_above, idle = reruns.unnamed(load(paths.config), config, found)
        if read_above:
            yield f"also changed since the last run ({paths.config}), and read by a job that runs:"
            yield from reruns.key_lines(read_above)
        if idle:
            yield f"changed since the last run ({paths.config}), but no job reruns for it:"
            yield from reruns.key_lines(idle)
    others = list(_by_other_code(paths))
    if others:
        yield f"{counted(len(others), 'product')} of a different version of the code, which reruns no job:"
        yield from (f"  {name}" for name in others[:5])
        yield "  `etalumis explain` says which code; docs/how-to-see-why-it-reran.md says what to force"


def _by_other_code(paths: Paths) -> Iterator[str]:
    now = software.code()["sources"]
    for path in sorted([*paths.root.glob(f"*{ENDING}"), *paths.root.glob(f"*/*{ENDING}")]):
        product = path.with_name(path.name.removesuffix(ENDING))
        record = read_record(product)
        if record is not None and record["code"]["sources"] != now:
            yield str(product)
