# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Texts generated from the configuration's models: JSON schema, key table, YAML."""

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from etalumis.config.models import Config

_TABLE_HEAD = ("| key | default | allowed | meaning |", "| --- | --- | --- | --- |")
_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


@dataclass(frozen=True)
class Key:
    """A key of the configuration, as texts for the user."""

    path: tuple[str, ...]
    default: str
    allowed: str
    description: str

    @property
    def dotted(self) -> str:
        """The names of the sections and the key, joined by dots."""
        return ".".join(self.path)


def keys(model: type[BaseModel] = Config, prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """Yield every key of `model` and its sections, in the order of declaration."""
    properties = model.model_json_schema(mode="validation")["properties"]
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, path)
        else:
            yield Key(path, inline_yaml(field.default), allowed(properties[path[-1]]), field.description or "")


def allowed(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema of a single value allows."""
    if "anyOf" in schema:
        return " or ".join(allowed(part) for part in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema["type"] == "array":
        return _allowed_list(schema)
    if schema["type"] == "object":
        return f"mapping of names to {allowed(schema['additionalProperties'])}"
    words = {"integer": "integer", "number": "number", "string": "text", "null": "null", "boolean": "true or false"}
    text = words[schema["type"]]
    bounds = [form.format(_bound(schema[key])) for key, form in _BOUNDS.items() if key in schema]
    if "pattern" in schema:
        bounds.append(f"matching {schema['pattern']}")
    if schema.get("minLength", 0) > 0:
        bounds.append("not empty")
    return f"{text} {', '.join(bounds)}" if bounds else text


def _allowed_list(schema: dict[str, Any]) -> str:
    items = schema.get("prefixItems")
    if items is None:
        return f"list of: {allowed(schema['items'])}"
    return f"list of {len(items)}: each {allowed(items[0])}"


def _bound(value: float) -> str:
    if value == 2**63:
        return "2^63"
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0e}".replace("e+", "e").replace("e0", "e")


def schema_text() -> str:
    """Return the JSON schema of a configuration, for editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def key_table() -> str:
    """Return all keys as Markdown tables, one per section."""
    lines: list[str] = []
    section = ""
    for key in keys():
        if key.path[0] != section:
            section = key.path[0]
            title = Config.model_fields[section].annotation
            assert isinstance(title, type)
            lines += ["", f"## {section}", "", inspect.cleandoc(title.__doc__ or ""), "", *_TABLE_HEAD]
        cells = (f"`{key.dotted}`", f"`{key.default}`", key.allowed.replace("|", "\\|"), key.description)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).lstrip("\n") + "\n"


def inline_yaml(value: Any) -> str:
    """Return `value` as YAML on one line."""
    text = yaml.safe_dump(to_jsonable_python(value), default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("...").strip()


def to_yaml(config: Config) -> str:
    """Return a configuration with all its keys; equal configurations give equal bytes."""
    data = config.model_dump(mode="json")
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Write sections as blocks and lists on one line."""


def _flow_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(list, _flow_list)
