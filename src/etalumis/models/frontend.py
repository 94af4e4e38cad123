# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Python front end. A context variable tells the statements of a model to which run they belong."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import CodeType
from typing import overload

import numpy as np
import numpy.typing as npt

from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.errors import InferenceError
from etalumis.execution import StatementReceiver, sample_elements
from etalumis.models.stack import StackTable

OLD_ORDER = "the arguments of a statement are in their old order"
"""Beginning of the warning about arguments in the order of etalumis 0.1."""


class FunctionModel:
    """A Python function as a model.

    Parameters
    ----------
    function
        Called once per run, without arguments; returns a number or None.
    name
        Name for logs and provenance (default: the name of the function).

    Examples
    --------
    ::

        def coin():
            return sample(Bernoulli(0.5), name="heads")

        trace = execution.run(FunctionModel(coin), Prior(rng), AddressTable())
        # one entry, address [coin+1:11-48]__Bernoulli__1
    """

    def __init__(self, function: Callable[[], float | None], name: str | None = None) -> None:
        self._function = function
        self._name = name if name is not None else getattr(function, "__name__", type(function).__name__)
        self._stacks = StackTable()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._name

    def run(self, execution: StatementReceiver) -> float | None:
        """Call the function once, send its statements to `execution`, and return its result."""
        token = _current.set(_CurrentRun(execution, self._stacks))
        try:
            result = self._function()
        finally:
            _current.reset(token)
        return None if result is None else float(result)


# Addresses start below this frame: the frames above it differ between callers.
_OUTERMOST_FRAME_CODE: CodeType = FunctionModel.run.__code__


class _CurrentRun:
    """State of one run, shared by its statements."""

    def __init__(self, execution: StatementReceiver, stacks: StackTable) -> None:
        self.execution = execution
        self.stacks = stacks
        self.scopes = 0
        self.scope: RejectionScope | None = None

    def stack(self) -> str:
        # two frames up: from this function through the statement to the model's code
        return self.stacks.address(sys._getframe(2), _OUTERMOST_FRAME_CODE)


_current: ContextVar[_CurrentRun | None] = ContextVar("etalumis_run", default=None)


class RejectionScope:
    """One execution of a rejection loop; created by `rejection_scope`."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Number of the scope in the run, from 1; 0 for a nested scope, which has no effect."""
        self.repetition = 0

    def repeat(self) -> None:
        """Reject the draws of the current repetition and start the next one."""
        self.repetition += 1


@overload
def sample(distribution: ArrayDistribution, control: bool = True, name: str = "") -> npt.NDArray[np.float64]: ...


@overload
def sample(distribution: Distribution, control: bool = True, name: str = "") -> float: ...


@overload
def sample(distribution: Distribution, *positional: bool | str, control: bool = True, name: str = "") -> float: ...


def sample(
    distribution: Distribution | ArrayDistribution, *positional: bool | str, control: bool = True, name: str = ""
) -> float | npt.NDArray[np.float64]:
    """Draw a value: ``sample(distribution, control, name)``.

    Parameters
    ----------
    distribution
        Prior. With scalar parameters, the value is a float even if the prior is discrete: use ``int(...)`` for indices.
        With array parameters, as in ``Normal(mean, 0.1)``, it is an array of independent elements. Each is an entry,
        with its index in address and name: ``name="theta"`` gives "theta[0]", "theta[1]", ...
    control
        If False, the value is always drawn from the prior; inference never proposes it.
    name
        Name of the entry in posteriors.

    Raises
    ------
    InferenceError
        If no run of a model is in progress.
    """
    if positional:
        control, name = _control_and_name(positional, control, name)
    run = _running("sample")
    scope, stack = run.scope, run.stack()
    replace = scope is not None
    number, repetition = (scope.number, scope.repetition) if scope is not None else (0, 0)
    if isinstance(distribution, ArrayDistribution):
        return sample_elements(
            run.execution, stack, distribution,
            name=name, control=control, replace=replace, scope=number, repetition=repetition,
        )  # fmt: skip
    return run.execution.sample(
        stack, distribution, name=name, control=control, replace=replace, scope=number, repetition=repetition
    )


@overload
def observe(
    distribution: Distribution | ArrayDistribution, name: str = "", value: npt.ArrayLike | None = None
) -> None: ...


@overload
def observe(
    distribution: Distribution | ArrayDistribution,
    *positional: npt.ArrayLike | None,
    name: str = "",
    value: npt.ArrayLike | None = None,
) -> None: ...


def observe(
    distribution: Distribution | ArrayDistribution,
    *positional: npt.ArrayLike | None,
    name: str = "",
    value: npt.ArrayLike | None = None,
) -> None:
    """Condition the run on an observation: ``observe(distribution, name, value)``.

    Parameters
    ----------
    distribution
        Likelihood. If its parameters are arrays, as in ``Normal(mean, 0.1)``, the elements are independent.
    name
        Name under which the user supplies the observed value.
    value
        Observed value, if the model itself supplies it.

    Raises
    ------
    InferenceError
        If no run of a model is in progress.
    """
    if positional:
        name, value = _name_and_value("observe(distribution, name, value)", positional, name, value)
    run = _running("observe")
    arrays = distribution if isinstance(distribution, ArrayDistribution) else ArrayDistribution.of(distribution)
    given = None if value is None else np.asarray(value, dtype=np.float64)
    run.execution.observe(run.stack(), arrays, name=name, value=given)


@overload
def tag(name: str, value: npt.ArrayLike) -> None: ...


@overload
def tag(*positional: npt.ArrayLike | None, name: str = "", value: npt.ArrayLike | None = None) -> None: ...


def tag(*positional: npt.ArrayLike | None, name: str = "", value: npt.ArrayLike | None = None) -> None:
    """Record a derived quantity: ``tag(name, value)``. Inference neither proposes it nor conditions on it.

    Raises
    ------
    InferenceError
        If no run of a model is in progress.
    """
    name, value = _name_and_value("tag(name, value)", positional, name, value)
    if value is None:
        raise TypeError("expected tag(name, value), found no value")
    _running("tag").execution.tag(name, np.asarray(value, dtype=np.float64))


def _control_and_name(positional: tuple[bool | str, ...], control: bool, name: str) -> tuple[bool, str]:
    """Return the arguments of a sample statement, given in the order control, name or in the deprecated other one."""
    names = [argument for argument in positional if isinstance(argument, str)]
    flags = [argument for argument in positional if not isinstance(argument, str)]
    usage = "sample(distribution, control, name)"
    if len(names) > 1 or len(flags) > 1 or (names and name):
        raise TypeError(f"expected {usage}, found the arguments {positional}")
    if isinstance(positional[0], str):
        _warn_of_old_order(usage)
    return (flags[0] if flags else control), (names[0] if names else name)


def _name_and_value(
    usage: str, positional: tuple[npt.ArrayLike | None, ...], name: str, value: npt.ArrayLike | None
) -> tuple[str, npt.ArrayLike | None]:
    """Return the arguments of a statement, given in the order name, value or in the deprecated other one."""
    names = [argument for argument in positional if isinstance(argument, str)]
    values = [argument for argument in positional if not isinstance(argument, str)]
    if len(names) > 1 and len(positional) == 2:
        raise TypeError(f"expected {usage} with a numeric value, found the text {positional[1]!r} as value")
    if len(names) > 1 or len(values) > 1 or (names and name) or (values and value is not None):
        raise TypeError(f"expected {usage}, found the arguments {positional}")
    if positional and not isinstance(positional[0], str):
        _warn_of_old_order(usage)
    return (names[0] if names else name), (values[0] if values else value)


def _warn_of_old_order(usage: str) -> None:
    # three frames up: from this function through the statement to the model's code
    warnings.warn(f"{OLD_ORDER}: write {usage}", FutureWarning, stacklevel=4)


@contextlib.contextmanager
def rejection_scope() -> Iterator[RejectionScope]:
    """Mark a rejection loop: only the draws of its last repetition are latents.

    If scopes are nested, only the outermost one has an effect.

    Raises
    ------
    InferenceError
        If no run of a model is in progress.

    Examples
    --------
    ::

        with rejection_scope() as scope:
            while rejected(x := sample(Uniform(0.0, 1.0))):
                scope.repeat()
    """
    run = _running("rejection_scope")
    if run.scope is not None:
        yield RejectionScope(0)
        return
    run.scopes += 1
    run.scope = RejectionScope(run.scopes)
    try:
        yield run.scope
    finally:
        run.scope = None


def _running(statement: str) -> _CurrentRun:
    run = _current.get()
    if run is None:
        raise InferenceError(
            f"{statement}() was called outside a run (or on a thread that a model started): "
            "wrap the function in FunctionModel and give that to an inference engine"
        )
    return run
