# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The records of all observations: a file of JSON lines that survives interruptions, and a table as CSV."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etalumis import __version__
from etalumis.counting import counted
from etalumis.diagnostics.run import to_json
from etalumis.errors import DatasetError
from etalumis.files import require_writable, write_text_atomic
from etalumis.inference_table.csv_text import csv_text
from etalumis.inference_table.record import FAILED
from etalumis.refusals import storage_error, storage_errors

logger = logging.getLogger(__name__)

FORMAT, VERSION = "etalumis-inference-table", 1
_IDENTITY_WORDS = {
    "engines": "engines",
    "seed": "seed",
    "settings": "settings of the engines (runs among them)",
    "probabilities": "expressions of --probability",
    "simulator_build_id": "simulator",
    "config_digest": "simulator settings",
    "noise_seed": "seed of the noise",
}


class InferenceTable:
    """Records by observation, in two files: ``NAME.jsonl``, appended to, and ``NAME.csv``, written from it.

    The first line of the JSON lines names the format and what all records depend on; each later line is one record. A
    line is on disk before the next observation begins. An incomplete last line, of a killed process, is removed.
    Records of another identity are refused unless ``NAME.csv`` was deleted, as Snakemake does before it runs a rule.

    Parameters
    ----------
    path
        The table, ``NAME.csv``.
    identity
        What all records depend on, as JSON values: engines, seed, settings, expressions, simulator.
    force
        Start a new table even if there are files of other settings or another kind.

    Attributes
    ----------
    path, lines_path
        The table, and the file of JSON lines.
    records
        Id -> record, in the order in which the observations were first recorded.

    Raises
    ------
    DatasetError
        If the files belong to other settings, are of another kind or are damaged.
    StorageError
        If they cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, force: bool = False) -> None:
        if path.suffix != ".csv":
            raise DatasetError(
                f"{path}: expected a name that ends in .csv; the records are written beside it as .jsonl"
            )
        self.path, self.lines_path = path, path.with_suffix(".jsonl")
        for file in (self.path, self.lines_path):
            require_writable(file, "inference table")
        self.records: dict[str, dict[str, Any]] = {}
        if self.lines_path.exists() and not force:
            self._read(identity)
        elif self.path.exists() and not force:
            raise DatasetError(
                f"{self.path} already exists, but {self.lines_path.name}, from which such a table is written, does "
                "not; name another output, or overwrite it with --force"
            )
        if not any(record["status"] != FAILED for record in self.records.values()):
            self._start(identity)

    def _start(self, identity: Mapping[str, Any]) -> None:
        header = {"format": FORMAT, "version": VERSION, "producer": f"etalumis {__version__}"}
        write_text_atomic(self.lines_path, _line({**header, "identity": dict(identity)}))
        self.records.clear()

    def _read(self, identity: Mapping[str, Any]) -> None:
        try:
            content = self.lines_path.read_bytes()
        except OSError as error:
            raise storage_error(self.lines_path, "read", error) or error from error
        whole = content[: content.rfind(b"\n") + 1]
        header, *records = self._parse(whole)
        self.records.update((str(record["id"]), record) for record in records)
        differing = self._differing(header, identity)
        if differing and any(record["status"] != FAILED for record in records):
            if self.path.exists():
                raise DatasetError(
                    f"{self.lines_path}: its results were obtained with another choice of {differing}; name another "
                    "output, or start a new table with --force"
                )
            logger.warning(
                "%s: starting from the beginning: its results were obtained with another choice of %s, and %s is gone",
                self.lines_path, differing, self.path.name,
            )  # fmt: skip
            self.records.clear()
            return
        if len(whole) < len(content):
            with storage_errors(self.lines_path, "written"):
                os.truncate(self.lines_path, len(whole))

    def _parse(self, content: bytes) -> list[dict[str, Any]]:
        lines = content.splitlines()
        parsed: list[Any] = []
        for number, line in enumerate(lines, 1):
            try:
                parsed.append(json.loads(line))
            except ValueError as error:
                if number == 1:
                    break
                raise DatasetError(
                    f"{self.lines_path}: line {number} is not JSON ({error}); the file was altered. Delete the line, "
                    "and its observation is inferred again."
                ) from error
        found = parsed[0].get("format") if parsed and isinstance(parsed[0], dict) else None
        if found != FORMAT:
            kind = f"is a file of format {found!r}" if found else f"is not a file of format {FORMAT!r}"
            raise DatasetError(f"{self.lines_path} already exists and {kind}; name another output, or use --force")
        if parsed[0].get("version") != VERSION:
            raise DatasetError(
                f"{self.lines_path}: expected version {VERSION} of {FORMAT}, found {parsed[0].get('version')}; "
                "name another output"
            )
        return parsed

    def _differing(self, header: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
        """Return in words in what the records differ from `identity`; empty if in nothing."""
        found, expected = header["identity"], to_json(identity)
        return ", ".join(_IDENTITY_WORDS.get(key, key) for key in expected if found.get(key) != expected[key])

    def finished(self, key: str, digest: str) -> bool:
        """Return whether an observation has a record that need not be made again: it did not fail.

        Raises
        ------
        DatasetError
            If the record is of another observation with the same id.
        """
        record = self.records.get(key)
        if record is None or record["status"] == FAILED:
            return False
        if record["observation_digest"] != digest:
            raise DatasetError(
                f"{self.lines_path}: has a record {key!r} of another observation ({record['source']}); name another "
                "output, or start a new table with --force"
            )
        return True

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the record of an observation, or replace that of a failed one; it is on disk when this returns.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        plain = to_json(record)
        with storage_errors(self.lines_path, "written"), self.lines_path.open("a", encoding="utf-8") as file:
            file.write(_line(plain))
            file.flush()
            os.fsync(file.fileno())
        self.records[str(record["id"])] = plain

    def write_csv(self, order: Sequence[str] = ()) -> None:
        """Write the table, one row per observation: those with an id in `order` in this order, after all others.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        places = {key: place for place, key in enumerate(order)}
        keys = sorted(self.records, key=lambda key: places.get(key, -1))
        write_text_atomic(self.path, csv_text([self.records[key] for key in keys]))

    def __str__(self) -> str:
        return f"{self.path} ({counted(len(self.records), 'observation')})"


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"
