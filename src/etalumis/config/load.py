# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reading a configuration: every mistake becomes a ConfigError that prints the YAML to write."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from etalumis.config.describe import Key, inline_yaml, keys
from etalumis.config.models import Config
from etalumis.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML itself would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises
    ------
    ConfigError
        The file cannot be read, is no YAML, or a key or value is wrong; all mistakes are named at once.
    """
    path = Path(path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give a configuration file, such as config/config.yaml"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found byte {error.start} that is none") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML, found: {error}") from error
    return from_mapping({} if data is None else data, source=str(path))


def from_mapping(data: Any, source: str = "configuration") -> Config:
    """Check a mapping (from YAML, or Snakemake's `config`) and fill in the defaults.

    Raises
    ------
    ConfigError
        With one paragraph a mistake: key, value found, what is allowed, the YAML to write.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{source}: expected sections with keys, found {data!r}\nwrite for instance:\n  run:\n    name: demo"
        )
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        messages = [_explain(dict(item)) for item in error.errors()]
        # a union (value or null) reports each of its members: one message a key is enough
        raise ConfigError("\n".join(f"{source}: {text}" for text in dict.fromkeys(messages))) from error


def _explain(error: Mapping[str, Any]) -> str:
    path = _key_path(error["loc"])
    if not path:  # a condition between keys
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return _unknown(path, error["input"])
    known = {key.path: key for key in keys()}
    key = known.get(path)
    if key is None:  # a section that is no mapping
        return (
            f"{'.'.join(path)}: expected a section with keys, found {error['input']!r}\n"
            f"write for instance:\n{_example(_first_key(path, known))}"
        )
    reason = f" ({error['msg'].removeprefix('Value error, ')})" if error["type"] == "value_error" else ""
    return f"{key.dotted}: expected {key.allowed}, found {_found(error)}{reason}\nwrite for instance:\n{_example(key)}"


def _found(error: Mapping[str, Any]) -> str:
    value = error["input"]
    place = next((f" at place {part}" for part in error["loc"] if isinstance(part, int)), "")
    return (inline_yaml(value) if isinstance(value, str | int | float | list | dict | None) else repr(value)) + place


def _key_path(location: Sequence[int | str]) -> tuple[str, ...]:
    """Return the keys in a pydantic location, without list places and names of union members."""
    path: list[str] = []
    model: type[BaseModel] | None = Config
    for part in location:
        if model is None or not isinstance(part, str):
            break
        path.append(part)
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return tuple(path)


def _unknown(path: tuple[str, ...], value: Any) -> str:
    if isinstance(value, dict):
        return _unknown_section(path)
    nearest = _nearest(path)
    shown = inline_yaml(value)
    text = f"{'.'.join(path)}: unknown key (found {shown}); the nearest valid one is {nearest.dotted}"
    return f"{text}: {nearest.description}\nwrite for instance:\n{_example(nearest)}"


def _unknown_section(path: tuple[str, ...]) -> str:
    everything = list(keys())
    sections = list(dict.fromkeys(key.path[: len(path)] for key in everything if len(key.path) > len(path)))
    dotted = {".".join(section): section for section in sections}
    nearest = difflib.get_close_matches(".".join(path), dotted, n=1, cutoff=0.0)[0]
    first = next(key for key in everything if key.path[: len(path)] == dotted[nearest])
    return (
        f"{'.'.join(path)}: unknown section; the nearest valid one is {nearest}\nwrite for instance:\n{_example(first)}"
    )


def _nearest(path: tuple[str, ...]) -> Key:
    """Return the valid key that was probably meant: same section first, else anywhere."""
    everything = list(keys())
    for candidates in ([key for key in everything if key.path[:-1] == path[:-1]], everything):
        by_name = {key.path[-1]: key for key in candidates}
        close = difflib.get_close_matches(path[-1], by_name, n=1, cutoff=0.6)
        if close:
            return by_name[close[0]]
    # no name is close: the sections that start one may be, or the whole dotted key
    by_dotted = {key.dotted: key for key in everything}
    return by_dotted[difflib.get_close_matches(".".join(path), by_dotted, n=1, cutoff=0.0)[0]]


def _first_key(path: tuple[str, ...], known: Mapping[tuple[str, ...], Key]) -> Key:
    return next((key for key in known.values() if key.path[: len(path)] == path), next(iter(known.values())))


def _example(key: Key) -> str:
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(key.path)]
    lines[-1] += f" {key.default}"
    return "\n".join(f"  {line}" for line in lines)
