# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Reading a configuration: every mistake becomes a ConfigError that shows the YAML to write."""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from etalumis.config.describe import Key, inline_yaml, keys
from etalumis.config.models import Config
from etalumis.config.whole import require_runnable
from etalumis.errors import ConfigError

DEFAULT_FILE = Path("config/config.yaml")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys; PyYAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # the parent class reports it
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Config:
    """Read the configuration file of one verb.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, or a key or value is not valid; all mistakes are named at once.
    """
    return from_mapping(_parse_file(Path(path)), str(path))


def read(files: Sequence[Path], sections: Sequence[str] = ()) -> Config:
    """Read the configuration of the whole workflow from files and from sections given on a command line.

    Snakemake, scripts/run_workflow.py and `etalumis config` all call it.

    Parameters
    ----------
    files
        Configuration files. Keys of a later file replace those of an earlier one.
    sections
        Texts such as ``training={max_minutes: 30}``. Their keys replace those of the files.

    Raises
    ------
    ConfigError
        If a file cannot be read or is not YAML, a section is given twice, a key or value is not valid, or the workflow
        could not run with it.
    """
    data: dict[str, Any] = {}
    for path in map(Path, files):
        data = _merged(data, _mapping(_parse_file(path), str(path)))
    given: dict[str, Any] = {}
    for text in sections:
        name, value = _parse_section(text)
        if name in given:
            raise ConfigError(f"--config: section {name} is given twice; write all its keys into one {name}={{...}}")
        given[name] = value
    source = ", ".join([*map(str, files), *(["--config"] if given else [])])
    config = from_mapping(_merged(data, given), source or "configuration")
    require_runnable(config)
    return config


def _parse_file(path: Path) -> Any:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give a configuration file, such as {DEFAULT_FILE}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found an invalid byte at offset {error.start}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML, found: {error}") from error
    return {} if data is None else data


def _parse_section(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(
            f"--config {text}: expected SECTION={{KEY: VALUE, ...}}, such as 'training={{max_minutes: 30}}'; "
            "configuration files go after --configfile"
        )
    try:
        return name, yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {text}: expected YAML after {name}=, found: {error}") from error


def _mapping(data: Any, source: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{source}: expected sections with keys, found {data!r}\nwrite for instance:\n  run:\n    name: demo"
        )
    return data


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` updated with the keys of `above`; sections are merged, all other values are replaced."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        result[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return result


def from_mapping(data: Any, source: str = "configuration") -> Config:
    """Check a mapping and fill in the defaults.

    Raises
    ------
    ConfigError
        If a key or value is not valid. The message has one paragraph per mistake: the key, the value found, what is
        allowed, and the YAML to write.
    """
    try:
        return Config.model_validate(_mapping(data, source))
    except ValidationError as error:
        messages = [_explain(dict(item)) for item in error.errors()]
        # a union (value or null) reports each of its members; one message per key is enough
        raise ConfigError("\n".join(f"{source}: {text}" for text in dict.fromkeys(messages))) from error


def _explain(error: Mapping[str, Any]) -> str:
    path = _key_path(error["loc"])
    if not path:  # a condition on several keys
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return _unknown(path, error["input"])
    known = {key.path: key for key in keys()}
    key = known.get(path)
    if key is None:  # a section that is not a mapping
        return (
            f"{'.'.join(path)}: expected a section with keys, found {error['input']!r}\n"
            f"write for instance:\n{_example(_first_key(path, known))}"
        )
    reason = f" ({error['msg'].removeprefix('Value error, ')})" if error["type"] == "value_error" else ""
    return f"{key.dotted}: expected {key.allowed}, found {_found(error)}{reason}\nwrite for instance:\n{_example(key)}"


def _found(error: Mapping[str, Any]) -> str:
    value = error["input"]
    index = next((f" at index {part}" for part in error["loc"] if isinstance(part, int)), "")
    return (inline_yaml(value) if isinstance(value, str | int | float | list | dict | None) else repr(value)) + index


def _key_path(location: Sequence[int | str]) -> tuple[str, ...]:
    """Return the keys in a pydantic location, without list indices and names of union members."""
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
    every_key = list(keys())
    sections = list(dict.fromkeys(key.path[: len(path)] for key in every_key if len(key.path) > len(path)))
    dotted = {".".join(section): section for section in sections}
    nearest = difflib.get_close_matches(".".join(path), dotted, n=1, cutoff=0.0)[0]
    first = next(key for key in every_key if key.path[: len(path)] == dotted[nearest])
    return (
        f"{'.'.join(path)}: unknown section; the nearest valid one is {nearest}\nwrite for instance:\n{_example(first)}"
    )


def _nearest(path: tuple[str, ...]) -> Key:
    """Return the valid key that was probably meant, from the same section if one is close, else from any."""
    every_key = list(keys())
    for candidates in ([key for key in every_key if key.path[:-1] == path[:-1]], every_key):
        by_name = {key.path[-1]: key for key in candidates}
        close = difflib.get_close_matches(path[-1], by_name, n=1, cutoff=0.6)
        if close:
            return by_name[close[0]]
    # no name is close; compare whole dotted keys
    by_dotted = {key.dotted: key for key in every_key}
    return by_dotted[difflib.get_close_matches(".".join(path), by_dotted, n=1, cutoff=0.0)[0]]


def _first_key(path: tuple[str, ...], known: Mapping[tuple[str, ...], Key]) -> Key:
    return next((key for key in known.values() if key.path[: len(path)] == path), next(iter(known.values())))


def _example(key: Key) -> str:
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(key.path)]
    lines[-1] += f" {key.default}"
    return "\n".join(f"  {line}" for line in lines)
