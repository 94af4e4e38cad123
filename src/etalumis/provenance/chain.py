# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The chain of records from a product back to the simulator, and what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etalumis.counting import counted
from etalumis.errors import DatasetError
from etalumis.progress import duration
from etalumis.provenance import software
from etalumis.provenance.record import ENDING, checksum_of, contents, found_path, product_of, read_record


@dataclass
class Step:
    """A product of the chain.

    Attributes
    ----------
    path
        The file or folder.
    record
        Its record; None for a file that no command of etalumis has written, such as a configuration.
    inputs
        Its inputs.
    problems
        What is missing or altered, in words.
    notes
        What differs from now without being wrong: code, settings.
    """

    path: Path
    record: dict[str, Any] | None
    inputs: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def trace_back(product: Path) -> list[Step]:
    """Return the steps that led to a product, each after its inputs, and the product last.

    Raises
    ------
    DatasetError
        If the product does not exist, or a record is damaged.
    """
    if not product.exists():
        raise DatasetError(f"{product}: no such file or folder; expected a product of etalumis")
    steps: dict[Path, Step] = {}
    _follow(product_of(product), steps)
    return list(steps.values())


def _follow(path: Path, steps: dict[Path, Step]) -> None:
    record = read_record(path)
    step = Step(path, record)
    if record is not None:
        step.problems += _altered(path, record["files"])
        for stored in record["inputs"]:
            source = found_path(stored["path"], path.parent)
            owner = product_of(source)
            step.inputs.append(owner)
            if not source.exists():
                step.problems.append(f"its input {source} is missing")
                continue
            if owner not in steps and owner != path:
                _follow(owner, steps)
            if checksum_of(source) != stored["checksum"] and not _is_configuration(source, record):
                step.problems.append(f"its input {source} has changed since")
        step.notes += [*_code_notes(record["code"]), *_setting_notes(path, record)]
    steps[path] = step


def _altered(path: Path, expected: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not path.exists():
        yield "it is missing"
        return
    found = contents(path, expected)
    for name, file in expected.items():
        what = f"its file {name}" if name else "it"
        if name not in found:
            yield f"{what} is missing"
        elif found[name]["sha256"] != file["sha256"]:
            yield f"{what} was altered after it was written"


def _is_configuration(source: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a source is the configuration, whose settings are in the record: other keys may have changed."""
    return record["configuration"] is not None and source.suffix in (".yaml", ".yml")


def _code_notes(code: Mapping[str, Any]) -> Iterator[str]:
    if code["sources"] != (now := software.code())["sources"]:
        yield f"made by a different version of the code: {software.in_words(dict(code))}; now {software.in_words(now)}"


def _setting_notes(path: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that its configuration file has changed since."""
    from etalumis.config import load  # half a second to import

    for stored in record["inputs"]:
        source = found_path(stored["path"], path.parent)
        if not _is_configuration(source, record) or not source.is_file():
            continue
        now = load(source).model_dump(mode="json", by_alias=True)
        for key, old, new in changes(record["configuration"], _known_to(record["configuration"], now)):
            yield f"{source} has another {key} now: {new}; it was {old}"


def _known_to(record: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without the keys that the version which wrote the record did not have."""
    return {
        key: _known_to(record[key], value) if isinstance(value, Mapping) and isinstance(record[key], Mapping) else value
        for key, value in now.items()
        if key in record
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted key, the old and the new value of every key whose values differ."""
    for key in dict.fromkeys([*old, *new]):
        mine, theirs = old.get(key), new.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from changes(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs:
            yield f"{prefix}{key}", mine, theirs


def lines(steps: Sequence[Step]) -> Iterator[str]:
    """Yield the chain in words, from the simulator to the product, and what is wrong with it last."""
    made = [step for step in steps if step.record is not None]
    machines: list[Any] = []
    for step in made:
        assert step.record is not None
        record = step.record
        yield str(step.path)
        yield f"  made by   etalumis {' '.join(record['command'])}"
        yield f"  at        {record['started']}, in {duration(record['wall_s'])}"
        yield f"  with      {software.in_words(record['code'])}{_identity(record)}"
        if record["machine"] not in machines:
            machines.append(record["machine"])
            yield f"  on        {machine_in_words(record['machine'])}"
        yield f"  from      {', '.join(map(str, step.inputs)) or 'no other product'}"
        for problem in step.problems:
            yield f"  PROBLEM   {problem}"
        for note in step.notes:
            yield f"  note      {note}"
        yield ""
    sources = [step for step in steps if step.record is None]
    if sources:
        yield f"without a record of their own: {', '.join(str(step.path) for step in sources)}"
    yield conclusion(steps)


def _identity(record: Mapping[str, Any]) -> str:
    words = [f"{name} {number}" for name, number in record["numbers"].items()]
    words += [f"simulator build {record['simulator_build_id']}"] if record["simulator_build_id"] else []
    words += [f"configuration {record['config_digest']}"] if record["config_digest"] else []
    return "".join(f"; {word}" for word in words)


def machine_in_words(machine: Mapping[str, Any]) -> str:
    """Return the machine of a record in words."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['processor']}, {counted(machine['cores'], 'core')}, {machine['system']}; {versions}"


def conclusion(steps: Sequence[Step]) -> str:
    """Return in one paragraph whether the chain is whole."""
    product = steps[-1]
    if product.record is None:
        return (
            f"{product.path} has no record ({product.path.name}{ENDING}): it was not written by etalumis, or by a "
            "version that wrote none."
        )
    made = [step for step in steps if step.record is not None]
    problems = sum(len(step.problems) for step in steps)
    codes = {step.record["code"]["sources"] for step in made if step.record is not None}
    changed = [step for step in made if step.record is not None and step.record["code"]["changed"]]
    text = f"{counted(len(made), 'product')}, up to {product.path}: "
    text += counted(problems, "problem") if problems else "nothing is missing, nothing was altered"
    text += ", all made by the same code" if len(codes) == 1 else f", made by {len(codes)} versions of the code"
    if software.code()["sources"] not in codes:
        text += ", but not by the present version"
    return text + (f"; {len(changed)} of them by code with uncommitted changes." if changed else ".")
