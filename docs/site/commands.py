# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The command line as Markdown: what `--help` prints, for every verb and action."""

import argparse
from collections.abc import Iterator

from etalumis import cli

WIDTH = 96
"""Columns of a usage line."""


def reference() -> str:
    """Return a table of the verbs, and a section for each."""
    verbs = {verb: _actions(cli.parser(verb))[verb] for verb in cli.VERBS}
    summary = "\n".join(f"| [`{verb}`](#etalumis-{verb}) | {text} |" for verb, text in cli.VERBS.items())
    sections = "\n".join(line for parser in verbs.values() for line in _section(parser, "##"))
    return f"\n| verb | what it does |\n| --- | --- |\n{summary}\n{sections}"


def _section(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    """Yield the help of a parser, then that of its actions."""
    help_text = argparse.HelpFormatter(parser.prog, width=WIDTH)
    help_text.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    yield f"\n{heading} {parser.prog}\n\n{parser.description}\n"
    yield f"```text\n{help_text.format_help().strip()}\n```\n"
    options = [
        f"| `{help_text._format_action_invocation(action)}` | {help_text._expand_help(action)} |"
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    if options:
        yield "\n".join(["| option | meaning |", "| --- | --- |", *options, ""])
    if parser.epilog:
        yield f"```text\n{parser.epilog.strip()}\n```\n"
    for action in _actions(parser).values():
        yield from _section(action, f"{heading}#")


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the verbs of the program, or of the actions of a verb, by name."""
    return {
        name: child
        for group in parser._actions
        if isinstance(group, argparse._SubParsersAction)
        for name, child in group.choices.items()
    }
