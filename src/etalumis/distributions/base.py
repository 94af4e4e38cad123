# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The base class of the scalar distributions."""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import numpy as np


class _ArrayAware(ABCMeta):
    """Metaclass of the distributions: a call with array parameters returns an `ArrayDistribution`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        for parameter in args:
            if not isinstance(parameter, _NUMBER):
                return cls._of_any(args, kwargs)
        if kwargs:
            return cls._of_any(args, kwargs)
        return super().__call__(*args)

    def _of_any(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rank = 1 if cls.__name__ == "Categorical" else 0  # dimensions of the parameter of a scalar distribution
        if rank == 1 and len(args) == 1 and type(args[0]) is tuple and isinstance(next(iter(args[0]), None), _NUMBER):
            return super().__call__(*args)
        if any(np.ndim(parameter) > rank for parameter in (*args, *kwargs.values())):
            from etalumis.distributions.arrays import ArrayDistribution  # circular import

            names = [field.name for field in fields(cast(Any, cls))]
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            if len(args) + len(kwargs) != len(names) or set(given) != set(names):
                raise TypeError(f"{cls.__name__}: expected the parameters {', '.join(names)}")
            arrays = tuple(np.asarray(given[name], dtype=np.float64) for name in names)
            return ArrayDistribution(cast(Any, cls).code, arrays)
        # NumPy scalars and arrays of shape () become floats: arrays are not hashable
        plain = {key: _plain(value) for key, value in kwargs.items()}
        return super().__call__(*map(_plain, args), **plain)


_NUMBER = (float, int)


def _plain(parameter: Any) -> Any:
    return parameter.tolist() if hasattr(parameter, "tolist") else parameter


@dataclass(frozen=True)
class Distribution(metaclass=_ArrayAware):
    """A scalar prior or proposal, immutable and hashable.

    If parameters are arrays, as in ``Normal(np.zeros(8), 1.0)``, the call returns an `ArrayDistribution`.
    """

    code: ClassVar[int]
    """Number of the distribution in the PPX union."""
    discrete: ClassVar[bool] = False
    """Whether the values are integers."""

    @property
    def kind(self) -> str:
        """Name of the distribution in PPX."""
        return type(self).__name__

    @property
    def suffix(self) -> str:
        """Suffix of addresses."""
        return type(self).__name__

    @property
    def parameters(self) -> tuple[float, ...]:
        """Parameters in PPX order."""
        return tuple(vars(self).values())  # `dataclasses.astuple` is twenty times slower

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""

    @abstractmethod
    def log_prob(self, x: float) -> float:
        """Return the log density (or log probability) at `x`; -inf outside the support."""

    def _require(self, held: bool, what: str) -> None:
        if not held:
            raise ValueError(f"{self.kind}{self.parameters}: expected {what}")
