# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Why jobs of the workflow rerun, or do not: the reasons of Snakemake's dry run in the words of the configuration."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etalumis.config import Config
from etalumis.counting import counted
from etalumis.provenance.chain import changes

_JOB = re.compile(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", re.MULTILINE)
_PARAMS = re.compile(r"across all output: before: (.*?) now: (.*?) *(?:$|; Software environment)")
FILES_SHOWN = 3
_NOTHING = "<nothing exclusive>"
# where a rule's settings come from; workflow.py makes them
_ENGINES = ("rmh", "network_rmh", "ic", "smc", "importance")
_SECTIONS = {
    "simulator": "simulator.", "generate": "traces.", "sort": "traces.", "observation": "observation.", "network": "",
    "infer": "", **{engine: f"posteriors.{engine}." for engine in _ENGINES},
}  # fmt: skip
_READ: dict[str, tuple[str, ...]] = {
    "simulator": ("simulator.",), "generate": ("traces.", "run.seed"), "sort": ("traces.",),
    "observation": ("observation.",), "network": ("network.", "training.", "observation.name", "run.seed"),
    "figures": ("figures.",),
    "infer": ("observations.", "observation.seed", "posteriors.", "run.seed"),
    **{engine: (f"posteriors.{engine}.", "posteriors.entries", "run.seed") for engine in _ENGINES},
}  # fmt: skip
_RENAMED = {
    ("infer", "noise_seed"): "observation.seed",
    ("network", "observation"): "observation.name",
    **{(engine, "entries"): "posteriors.entries" for engine in _ENGINES},
}


@dataclass
class Rerun:
    """The jobs of a rule that would run.

    Attributes
    ----------
    rule
        Name of the rule.
    jobs
        Number of jobs.
    keys
        Key of the configuration -> its value in the last execution, and now.
    reasons
        Other reasons, in words.
    """

    rule: str
    jobs: int = 0
    keys: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str, wildcards: Mapping[str, str]) -> None:
        """Add the reason of a job, as Snakemake states it."""
        self.jobs += 1
        found = _PARAMS.search(reason)
        self.keys |= _changed_keys(self.rule, found[1], found[2], wildcards) if found else {}
        self.reasons += [words for words in _in_words(reason) if words not in self.reasons]

    def lines(self) -> Iterator[str]:
        """Yield the reasons, one per line."""
        yield f"{self.rule} ({counted(self.jobs, 'job')})"
        yield from key_lines(self.keys)
        for reason in self.reasons:
            yield f"  {reason}"


def parse(output: str) -> list[Rerun]:
    """Return the rules of which jobs would run, from the output of `snakemake --dry-run`, in its order."""
    found: dict[str, Rerun] = {}
    for rule, body in _JOB.findall(output):
        fields = dict(re.findall(r"^ {4}(\w+): (.*)$", body, re.MULTILINE))
        if "reason" in fields and "output" in fields:
            wildcards = dict(re.findall(r"(\w+)=([^,\s]+)", fields.get("wildcards", "")))
            found.setdefault(rule, Rerun(rule)).add(fields["reason"], wildcards)
    return list(found.values())


def _in_words(reason: str) -> Iterator[str]:
    for beginning, words in (
        ("Missing output files: ", "does not exist yet, or was deleted: "),
        ("Incomplete output files: ", "an earlier call was killed while it ran: "),
        ("Updated input files: ", "an input is newer: "),
    ):
        found = re.search(rf"(?:^|; ){beginning}(.*?)(?:; [A-Z]|$)", reason)
        if found:
            files = found[1].split(", ")
            more = f" and {len(files) - FILES_SHOWN} more" if len(files) > FILES_SHOWN else ""
            yield f"{words}{', '.join(files[:FILES_SHOWN])}{more}"
    if "Input files updated by another job" in reason:
        yield "a job above makes one of its inputs"
    if "Set of input files has changed" in reason:
        yield "it has other inputs than in its last execution"
    if "Code has changed" in reason:
        yield "the rule itself was edited (workflow/rules)"
    if "Software environment definition has changed" in reason:
        yield "the conda environment was edited"
    if "Forced execution" in reason:
        yield "it was forced"
    found = _PARAMS.search(reason)
    if found and not (_settings(found[1]) and _settings(found[2])):
        yield f"its parameters were {_values(found[1])}, are {_values(found[2])}"


def _changed_keys(rule: str, before: str, now: str, wildcards: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    old, new = _settings(before), _settings(now)
    if old and new:
        return {_key(rule, name, wildcards): (mine, theirs) for name, mine, theirs in changes(old[0], new[0])}
    return {}


def _key(rule: str, name: str, wildcards: Mapping[str, str]) -> str:
    """Return the key of the configuration that a setting of a rule comes from."""
    if (rule, name) in _RENAMED:
        return _RENAMED[rule, name]
    if name == "seed" and rule in ("generate", "network", "infer", *_ENGINES):
        return "run.seed"
    if (rule, name) == ("generate", "count"):
        return f"traces.{wildcards.get('split', 'train')}"
    if rule == "infer":
        return re.sub(r"^engines\.", "posteriors.", name)
    return f"{_SECTIONS.get(rule, '')}{name}"


def _values(text: str) -> list[Any]:
    """Return the values of parameters as Snakemake lists them."""
    if text == _NOTHING:
        return []
    try:
        return list(ast.literal_eval(f"[{text}]"))
    except (ValueError, SyntaxError):
        return [text]


def _settings(text: str) -> list[dict[str, Any]]:
    return [value for value in _values(text) if isinstance(value, dict)]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def unnamed(
    last: Config, now: Config, reruns: Sequence[Rerun]
) -> tuple[dict[str, tuple[Any, Any]], dict[str, tuple[Any, Any]]]:
    """Return the changed keys that no reason names: those that a rule which runs may read, and those without effect.

    Snakemake states no settings of a job that runs anyway, because of its inputs.

    Parameters
    ----------
    last, now
        Configuration of the last run, and the present one.
    reruns
        The rules that would run.

    Returns
    -------
    tuple of dict
        Key -> value in the last run, and now.
    """
    named = {key for rerun in reruns for key in rerun.keys}
    old, new = (config.model_dump(mode="json", by_alias=True) for config in (last, now))
    keys = {key: (mine, theirs) for key, mine, theirs in changes(old, new) if key not in named}
    read = tuple(prefix for rerun in reruns for prefix in _READ.get(rerun.rule, ()))
    readable = {key for key in keys if key.startswith(read)}
    return {key: keys[key] for key in keys if key in readable}, {key: keys[key] for key in keys if key not in readable}


def key_lines(keys: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    """Yield the keys with both values, one per line."""
    for key, (old, new) in keys.items():
        yield f"  {key} was {_shown(old)}, is {_shown(new)}"
