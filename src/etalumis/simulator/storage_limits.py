# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whether the runs of a simulator fit into one trace file, by the rules of its writer."""

from collections.abc import Sequence

from etalumis.errors import DatasetError
from etalumis.tag_shapes import TagShape
from etalumis.trace import Trace


def storage_limits(traces: Sequence[Trace]) -> list[str]:
    """Return why the traces cannot be stored in one trace file, one text per reason; they can if it is empty."""
    return [*_tag_limits(traces), *_observe_limits(traces)]


def _tag_limits(traces: Sequence[Trace]) -> list[str]:
    shapes: dict[str, TagShape] = {}
    limits: dict[str, str] = {}
    for trace in traces:
        for name, value in trace.tags.items():
            try:
                if name in shapes:
                    shapes[name].require(name, value.shape)
                else:
                    shapes[name] = TagShape.from_first_value(name, value.shape)
            except DatasetError as error:
                limits.setdefault(name, str(error))
    return list(limits.values())


def _observe_limits(traces: Sequence[Trace]) -> list[str]:
    observed = [[(entry.name, entry.likelihood.shape) for entry in trace.observes] for trace in traces]
    names = [name for name, _ in observed[0]]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        return [f"{len(names)} observe statements have the names {names}; expected one statement per name"]
    other = next((number for number, found in enumerate(observed) if found != observed[0]), None)
    if other is None:
        return []
    return [
        f"run 0 observes {_described(observed[0])}, and run {other} {_described(observed[other])}; expected the same "
        "observe statements with the same shapes in every run"
    ]


def _described(observed: list[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name!r} of shape {shape}" for name, shape in observed) or "nothing"
