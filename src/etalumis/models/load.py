# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Load models by name: ``module:function``, importable from the current folder as with ``python -m``."""

import difflib
import functools
import importlib
import inspect
import operator
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from etalumis.errors import ConfigError
from etalumis.execution import Model
from etalumis.models.frontend import FunctionModel


def load_model(target: str, arguments: Mapping[str, Any] | None = None) -> Model:
    """Import a model.

    Parameters
    ----------
    target
        ``module:name``; the name may contain dots. It names a function with statements, or a model (an object with
        `run` and `name`).
    arguments
        Keyword arguments with which the function is called in every run.

    Raises
    ------
    ConfigError
        If the module or name does not exist, or does not accept the arguments. Errors raised by the module itself are
        not caught.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigError(f"model {target!r}: expected MODULE:FUNCTION, such as muon:shower for shower() in muon.py")
    found = _attribute(_import(module_name), name, target)
    if hasattr(found, "run") and hasattr(found, "name") and not inspect.isclass(found):
        if arguments:
            raise ConfigError(f"model {target}: an object with `run` takes no arguments; found {dict(arguments)}")
        model: Model = found
        return model
    if not callable(found):
        raise ConfigError(f"model {target}: expected a function, found {type(found).__name__}")
    given = dict(arguments or {})
    try:
        inspect.signature(found).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"model {target}: cannot be called with {given or 'no arguments'}: {error}; it takes "
            f"{inspect.signature(found)}"
        ) from error
    return FunctionModel(functools.partial(found, **given) if given else found, name)


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the module exists, but a module that it imports does not
        hint = f"; write {name.removesuffix('.py')}:FUNCTION, without .py" if name.endswith(".py") else ""
        raise ConfigError(
            f"model module {name!r}: no such module in {folder} nor installed{hint}. "
            "Run the command in the folder of the module's file."
        ) from error


def _attribute(module: ModuleType, name: str, target: str) -> Any:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError as error:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(name, public, n=3) or public[:10]
        raise ConfigError(f"model {target}: {module.__name__} has no {name!r}; it has {', '.join(near)}") from error
