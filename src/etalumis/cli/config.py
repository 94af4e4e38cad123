# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis config`: check and show a configuration, write its schema and key table."""

import argparse
import logging
from pathlib import Path
from typing import Any

from etalumis.cli.logs import say
from etalumis.config import DEFAULT_FILE, configuration_notes, key_table, read, schema_text, to_yaml
from etalumis.errors import ConfigError
from etalumis.files import write_text_atomic

logger = logging.getLogger(__name__)

SCHEMA = Path("workflow/schemas/config.schema.json")
README = Path("config/README.md")
TABLE_START = "<!-- table: written by `etalumis config schema --write` -->\n"
TABLE_END = "<!-- end of table -->\n"

_EPILOG = """\
examples:
  etalumis config check config/config.yaml     reports mistakes, and settings without effect
  etalumis config show config/test.yaml        prints every key, with all defaults
  etalumis config show --config 'run={name: second, seed: 2}'
                                               what `snakemake --config 'run={name: second, seed: 2}'` uses
  etalumis config schema --write               after a change of a section in src/etalumis/config
"""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "config",
        help="check a configuration, show it with all defaults, write its schema and key table",
        description="Check and show a configuration. Every key is described in config/README.md.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("check", "report mistakes, with YAML that corrects them, and settings without effect; exit code 0 if valid"),
        ("show", "print the whole configuration, with all defaults"),
    ):
        action = actions.add_parser(name, help=text, description=_sentence(text))
        action.add_argument(
            "files", type=Path, nargs="*", metavar="FILE",
            help=f"configuration file (default: {DEFAULT_FILE}); keys of a later file replace those of an earlier one",
        )  # fmt: skip
        action.add_argument(
            "--config", nargs="+", action="extend", default=[], metavar="SECTION={KEY: VALUE}",
            help="keys that override those of the files, in the syntax of `snakemake --config`",
        )  # fmt: skip
    text = f"print the JSON schema, or write it to {SCHEMA} and the key table to {README}"
    schema = actions.add_parser("schema", help=text, description=_sentence(text))
    schema.add_argument("--write", action="store_true", help="write both files; call it in the root of the checkout")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def run(args: argparse.Namespace) -> int:
    """Run the requested action."""
    if args.action == "schema":
        if args.write:
            write_schema(Path())
        else:
            say(schema_text().rstrip("\n"))
        return 0
    config = read(args.files or [DEFAULT_FILE], args.config)
    for line in configuration_notes(config):
        logger.warning("%s", line)
    if args.action == "show":
        say(to_yaml(config).rstrip("\n"))
    return 0


def write_schema(root: Path) -> None:
    """Write the schema and the key table to the checkout at `root`."""
    write_text_atomic(root / SCHEMA, schema_text())
    write_text_atomic(root / README, with_table((root / README).read_text(encoding="utf-8")))
    logger.info("written: %s, %s", SCHEMA, README)


def with_table(readme: str) -> str:
    """Return the text of config/README.md with the current key table.

    Raises
    ------
    ConfigError
        If the lines around the table are missing.
    """
    before, start, rest = readme.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not (start and end):
        raise ConfigError(
            f"{README}: expected the lines {TABLE_START.strip()} and {TABLE_END.strip()} around the table"
        )
    return f"{before}{start}\n{key_table()}\n{end}{after}"
