# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run the workflow on this machine, resume an interrupted run, and print where the results are."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from etalumis.cli import main as etalumis
from etalumis.cli.arguments import Parser
from etalumis.cli.streams import standard_streams
from etalumis.config import DEFAULT_FILE, configuration_notes, read
from etalumis.console import Console
from etalumis.diagnostics.files import read_diagnostics
from etalumis.diagnostics.headline import headline
from etalumis.errors import EtalumisError
from etalumis.figures import markup, summary
from etalumis.paths import Paths
from etalumis.progress import duration
from etalumis.timings import stage_table
from etalumis.workflow import FILE_OPTIONS, KEY_OPTIONS

LOCKS = Path(".snakemake/locks")
STYLE = Path("workflow/report/style.css")
PASS_ON_DELAY_S = 1.0
POLL_S = 1.0
LAST_LINES = 30
LINE_CHARACTERS = 110


def main() -> int:
    """Run all stages, then the report; return Snakemake's exit code. Unknown options are passed to Snakemake."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add_configuration(parser)
    parser.add_argument("--report-only", action="store_true", help="write the report without running any stage")
    parser.add_argument("--no-report", action="store_true", help="run the stages without writing the report")
    parser.add_argument("--verbose", action="store_true", help="show the output of Snakemake and of its jobs")
    args, rest = parser.parse_known_args()
    try:
        config = read(args.configfile or [DEFAULT_FILE], args.config)
    except EtalumisError as error:
        say(f"error: {error}")
        return 1
    paths = Paths(config.run.name)
    snakemake = [sys.executable, "-m", "snakemake", *configuration_words(args)]
    start = time.monotonic()
    if not args.report_only:
        if not unlock(snakemake):
            return 1
        verbose = args.verbose or not {"-n", "--dry-run"}.isdisjoint(rest)
        for note in () if verbose else configuration_notes(config):
            say(note)
        command = [*snakemake, "--quiet", "rules", "--cores", "all", *rest]
        code = run_snakemake(command) if verbose else run_quietly(command, paths)
        if code != 0:
            say(f"stopped (exit code {code}); the message is above, logs are in {paths.root / 'logs'}")
            say("run the same command again to resume")
            return code
    if args.no_report:
        return 0
    code = write_reports(snakemake, paths)
    if code == 0:
        say(f"\n{result(paths)}\n{stage_table(paths)}\n")
        say(f"wall time: {duration(time.monotonic() - start)}")
        say(f"figures:   {paths.figures}/")
        say(f"workflow:  {paths.workflow_report.resolve().as_uri()}")
        say(f"report:    {paths.report.resolve().as_uri()}")
    return code


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add Snakemake's options of the configuration, which are read here and passed on, with all of their names."""
    for names, metavar, text in (
        (FILE_OPTIONS, "FILE", "configuration files, as for Snakemake"),
        (KEY_OPTIONS, "SECTION={KEY: VALUE}", "keys that override those of the files, as for Snakemake"),
    ):
        parser.add_argument(*names, nargs="+", action="extend", default=[], metavar=metavar, help=text)


def configuration_words(args: argparse.Namespace) -> list[str]:
    """Return Snakemake's words for the configuration that was given, each option once."""
    words = []
    for (name, *_), values in ((FILE_OPTIONS, args.configfile), (KEY_OPTIONS, args.config)):
        words += [name, *values] if values else []
    return words


def write_reports(snakemake: list[str], paths: Paths) -> int:
    """Write Snakemake's report, then the page of the workflow's last rule again, with a link to that report."""
    words = ["--report", str(paths.workflow_report), "--report-stylesheet", str(STYLE), "--quiet", "all"]
    code = run_snakemake([*snakemake, *words])
    if code == 0:
        code = etalumis(["--quiet", "report", "--run", str(paths.root), "--output", str(paths.report)])
    return code


def result(paths: Paths) -> str:
    """Return the verdicts on the posteriors in words, and a table of the engines."""
    diagnostics = read_diagnostics(paths.diagnostics)
    rows = [list(row) for row in table_rows(summary.engine_table(diagnostics))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]  # fmt: skip
    checks = [
        textwrap.fill(f"{'ok ' if c['passed'] else 'NOT'}  {c['sentence']}", LINE_CHARACTERS, subsequent_indent=" " * 5)
        for c in diagnostics["checks"]
    ]
    return "\n".join(["RESULT", *headline(diagnostics), "", *checks, "", *lines, ""])


def table_rows(lines: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the header and the rows of the tables in a Markdown text."""
    for block in markup.blocks("\n".join(lines)):
        if isinstance(block, markup.Table):
            yield block.header
            yield from block.rows


def run_quietly(command: list[str], paths: Paths) -> int:
    """Run Snakemake with its output in a file, and show the progress of the jobs; on an error, show what happened."""
    output = paths.root / "logs" / "workflow.log"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = output.open("w", encoding="utf-8")
    except OSError as error:
        say(f"error: {output}: cannot be written ({error.strerror}); correct that, or choose another run.name")
        return 1
    console = Console(paths, output, write, live=sys.stdout.isatty())
    with file:
        code = run_snakemake(command, console, file)
    console.close()
    if code != 0:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        say("\n".join(console.errors() or lines[-LAST_LINES:]))
        say(f"all output: {output}")
    return code


def run_snakemake(command: list[str], console: Console | None = None, output: IO[str] | None = None) -> int:
    """Run Snakemake and return its exit code; after an interruption, wait until it has stopped its jobs.

    The terminal sends Ctrl-C to all processes; SIGTERM is passed on.
    """
    errors = None if output is None else subprocess.STDOUT
    process = subprocess.Popen(command, env=environment(), stdout=output, stderr=errors)

    def pass_on(number: int, frame: FrameType | None) -> None:
        # it may have been sent to the whole group, and two at once deadlock Snakemake's handler, which takes a lock
        time.sleep(PASS_ON_DELAY_S)
        process.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    while True:
        try:
            return process.wait(None if console is None else POLL_S)
        except subprocess.TimeoutExpired:
            assert console is not None, "only with a console is there a time limit"
            console.poll()
        except KeyboardInterrupt:
            say("interrupted: waiting for the running jobs to stop")


def environment() -> dict[str, str]:
    """Return the environment of Snakemake, in which characters that the encoding lacks are printed as escapes."""
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    return {**os.environ, "PYTHONIOENCODING": f"{encoding}:backslashreplace"}


def unlock(snakemake: list[str]) -> bool:
    """Remove the lock of a killed Snakemake; return False, after a message, if a process still runs here."""
    running = running_here()
    if running:
        shown = "\n".join(f"  {number}  {' '.join(command)[:100]}" for number, command in running.items())
        say(
            f"error: Snakemake, or one of its jobs, is running in this folder:\n{shown}\n"
            f"wait for it or stop it (kill {' '.join(map(str, running))}), then run the same command again"
        )
        return False
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        say("an earlier call was killed: removing its lock and resuming")
        return subprocess.run([*snakemake, "--unlock"], check=False, capture_output=True).returncode == 0
    return True


def running_here() -> dict[int, list[str]]:
    """Return the processes of Snakemake and its jobs in this folder, by process id."""
    here, found = str(Path.cwd()), {}
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if process.info["cwd"] == here and is_workflow_process(command):
            found[process.info["pid"]] = command
    return found


def is_workflow_process(command: list[str], names: Sequence[str] = ("snakemake", "etalumis")) -> bool:
    """Return whether a command line runs Snakemake or `etalumis`, as a program or through Python."""
    return any(Path(word).name in names for word in command[:2]) or (
        command[1:2] == ["-m"] and command[2:3] != [] and command[2] in names
    )


def say(text: str) -> None:
    """Write a line to standard output; a run continues if it cannot be written."""
    write(f"{text}\n")


def write(text: str) -> None:
    """Write a text to standard output, likewise."""
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()


if __name__ == "__main__":
    with standard_streams():
        sys.exit(main())
