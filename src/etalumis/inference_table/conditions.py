# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Conditions on the quantities of a posterior, such as ``channel in {1, 2} and px > 0``, and their probabilities.

The grammar, where ``{ }`` is a repetition and ``[ ]`` an option::

    column      = condition | "P" "(" condition ")" [ relation number ]
    condition   = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" condition ")" | comparison
    comparison  = name relation number | name [ "not" ] "in" set
    relation    = "<" | "<=" | ">" | ">=" | "==" | "!="
    set         = "{" number { "," number } "}" | "[" number "," number "]"
    name        = a word, with an index if it is a vector (energies[2]), or any text in double quotes ("mu/GeV")

The braces list values, the brackets give a closed interval. In ``P(condition) relation number``, the relation is an
inequality, and the number is a threshold between 0 and 1.
"""

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etalumis.diagnostics.quantities import Quantity, quantities_of
from etalumis.diagnostics.rounding import rounding_error
from etalumis.diagnostics.weights import summarise_continuous
from etalumis.errors import ConfigError, InferenceError
from etalumis.typing import FloatArray

BoolArray = NDArray[np.bool_]
Lookup = Callable[[str], FloatArray]
"""Name of a quantity -> its values (draw,), NaN if a draw does not have it."""
Condition = Callable[[Lookup], BoolArray]
"""Returns which draws satisfy a condition, array (draw,)."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    |(?P<name>[^\W\d]\w*(?:\[\d+\])?|"[^"]+")
    |(?P<symbol><=|>=|==|!=|[<>(){}\[\],])
    |(?P<end>$))""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "in"})
_INEQUALITIES: dict[str, Callable[[FloatArray | float, float], BoolArray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_HINT = "Examples: 'px > 0', 'channel in {1, 2}', 'P(channel in {1, 2} and px > 0) >= 0.9'"


class Probability(NamedTuple):
    """The posterior probability of a condition.

    Attributes
    ----------
    value
        The probability; NaN if every draw has weight zero.
    mcse
        Its Monte Carlo error, sqrt(sum w^2 (h - P)^2), where h is 1 for draws that satisfy the condition, but at least
        1 / (ESS + 2). This is the standard deviation of a probability that is 0 or 1 in ESS independent draws, where
        the first expression would be zero.
    passed
        Whether it satisfies the threshold; None without a threshold, or if it is NaN.
    """

    value: float
    mcse: float
    passed: bool | None


@dataclass(frozen=True)
class ProbabilityColumn:
    """A condition whose posterior probability is reported for each observation, with or without a threshold.

    Attributes
    ----------
    text
        The condition that was given, with single spaces.
    names
        Names of the quantities that occur in it.
    condition
        The condition.
    relation, threshold
        What the probability is compared with; None if there is no threshold.
    """

    text: str
    names: tuple[str, ...]
    condition: Condition
    relation: str | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        return f"P({self.text})" if self.relation is None else f"P({self.text}) {self.limit}"

    @property
    def limit(self) -> str | None:
        """The relation and the threshold, such as ">= 0.9"; None if there is no threshold."""
        return None if self.relation is None else f"{self.relation} {self.threshold:g}"

    @classmethod
    def parse(cls, text: str) -> "ProbabilityColumn":
        """Parse an expression of the grammar of this module.

        Raises
        ------
        ConfigError
            If it does not follow the grammar; the message says where, and what was expected.
        """
        return _Parser(text).column()

    def check_names(self, values: Mapping[str, FloatArray]) -> None:
        """Check that draws have every quantity of the expression.

        Raises
        ------
        InferenceError
            If they lack one; the message lists the names that they have, the closest first.
        """
        for name in self.names:
            if quantity_named(name, values) is None:
                known = list(dict.fromkeys([*(q.key for q in quantities_of(values)), *sorted(values)]))
                known.sort(key=lambda key: -difflib.SequenceMatcher(None, name, key).ratio())
                raise InferenceError(
                    f"--probability {str(self)!r}: there is no quantity {name!r}; the simulator has "
                    f"{', '.join(known) or 'none'}. A component of a vector is written NAME[0]."
                )

    def evaluate(
        self, values: Mapping[str, FloatArray], weight: FloatArray, lineage: FloatArray | None = None
    ) -> Probability:
        """Return the probability of the condition among weighted draws.

        A draw that lacks a quantity satisfies no comparison with it.

        Parameters
        ----------
        values
            Name -> (draw, ...).
        weight
            (draw,) weights that sum to one; all zero if no draw has weight.
        lineage
            (draw,) number of the lineage of each draw, if draws of one lineage are dependent.
        """
        if not weight.any():
            return Probability(float("nan"), float("nan"), None)

        def lookup(name: str) -> FloatArray:
            quantity = quantity_named(name, values)
            found = None if quantity is None else quantity.of(values)
            return np.full(len(weight), np.nan) if found is None else found

        summary = summarise_continuous(self.condition(lookup).astype(np.float64), weight, lineage)
        value, mcse = summary["mean"], max(summary["mcse"], 1.0 / (summary["ess"] + 2.0))
        passed = None
        if self.relation is not None and self.threshold is not None:
            passed = bool(_INEQUALITIES[self.relation](value, self.threshold))
        return Probability(value, mcse, passed)


def quantity_named(name: str, values: Mapping[str, FloatArray]) -> Quantity | None:
    """Return the quantity of some draws with this key, or the scalar or component of a vector with this name."""
    for quantity in quantities_of(values):
        if quantity.key == name:
            return quantity
    vector = re.fullmatch(r"(.+)\[(\d+)\]", name)
    source, component = (vector[1], int(vector[2])) if vector and name not in values else (name, None)
    if source not in values or np.ndim(values[source]) != (1 if component is None else 2):
        return None
    quantity = Quantity(name, source, component)
    return quantity if quantity.of(values) is not None else None


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Parser:
    """Recursive descent; one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan(text)
        self._at = 0
        self._names: dict[str, None] = {}

    def _scan(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while not tokens or tokens[-1].kind != "end":
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                start = position + len(text[position:]) - len(text[position:].lstrip())
                raise self._error(f"character {start + 1}: {text[start]!r} has no meaning here")
            kind = found.lastgroup
            word = found[kind]
            tokens.append(_Token("word" if word in _WORDS else kind, word, found.start(kind)))
            position = found.end()
        return tokens

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"--probability {self._text!r}: {problem}. {_HINT}")

    def _expected(self, what: str) -> ConfigError:
        token = self._tokens[self._at]
        found = "the end" if token.kind == "end" else repr(token.text)
        return self._error(f"character {token.position + 1}: expected {what}, found {found}")

    def _take(self, *texts: str) -> str | None:
        """Return the next token and go on, if it is one of these words or symbols; else None."""
        token = self._tokens[self._at]
        if token.kind in ("symbol", "word") and token.text in texts:
            self._at += 1
            return token.text
        return None

    def _require(self, what: str, *texts: str) -> str:
        found = self._take(*texts)
        if found is None:
            raise self._expected(what)
        return found

    def _of_kind(self, kind: str, what: str) -> str:
        token = self._tokens[self._at]
        if token.kind != kind:
            raise self._expected(what)
        self._at += 1
        return token.text

    def column(self) -> ProbabilityColumn:
        first, second = self._tokens[0], self._tokens[min(1, len(self._tokens) - 1)]
        whole = (first.kind, first.text, second.text) == ("name", "P", "(")
        self._at += whole
        condition = self._parenthesised() if whole else self._condition()
        start, stop = (second.position + 1, self._tokens[self._at - 1].position) if whole else (0, len(self._text))
        relation = self._take(*_INEQUALITIES) if whole else None
        threshold = None
        if relation is not None:
            threshold = float(self._of_kind("number", "a threshold between 0 and 1"))
            if not 0.0 <= threshold <= 1.0:
                raise self._error(f"the threshold of a probability lies between 0 and 1, found {threshold:g}")
        if self._tokens[self._at].kind != "end":
            if not whole and self._tokens[self._at].text in _INEQUALITIES:
                raise self._error("to compare the probability with a threshold, write P(CONDITION) >= THRESHOLD")
            raise self._expected("a relation or the end" if whole and relation is None else "and, or, or the end")
        text = " ".join(self._text[start:stop].split())
        return ProbabilityColumn(text, tuple(self._names), condition, relation, threshold)

    def _parenthesised(self) -> Condition:
        self._require("'('", "(")
        condition = self._condition()
        self._require("and, or, or ')'", ")")
        return condition

    def _condition(self) -> Condition:
        return self._joined(self._conjunction, "or", np.logical_or)

    def _conjunction(self) -> Condition:
        return self._joined(self._negation, "and", np.logical_and)

    def _joined(self, part: Callable[[], Condition], word: str, join: np.ufunc) -> Condition:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else lambda lookup: join.reduce([each(lookup) for each in parts])

    def _negation(self) -> Condition:
        if self._take("not"):
            inner = self._negation()
            return lambda lookup: ~inner(lookup)
        if self._tokens[self._at].text == "(":
            return self._parenthesised()
        return self._comparison()

    def _comparison(self) -> Condition:
        name = self._of_kind("name", "the name of a quantity").strip('"')
        self._names[name] = None
        relation = self._take(*_INEQUALITIES, "==", "!=", "in", "not")
        if relation is None:
            raise self._expected("a relation (<, <=, >, >=, ==, !=, in, not in)")
        if relation == "not":
            self._require("in", "in")
        if relation in ("in", "not"):
            inside = self._set()
        elif relation in ("==", "!="):
            inside = _one_of([self._number()])
        else:
            inside = _beyond(relation, self._number())
        inverted = relation in ("not", "!=")

        def condition(lookup: Lookup) -> BoolArray:
            values = lookup(name)
            found = inside(values)
            return (~found if inverted else found) & ~np.isnan(values)

        return condition

    def _set(self) -> Callable[[FloatArray], BoolArray]:
        if self._require("'{' or '['", "{", "[") == "{":
            members = [self._number()]
            while self._require("',' or '}'", ",", "}") == ",":
                members.append(self._number())
            return _one_of(members)
        low = self._number()
        self._require("','", ",")
        high = self._number()
        self._require("']'", "]")
        if low > high:
            raise self._error(f"expected an interval [low, high] with low <= high, found [{low:g}, {high:g}]")
        return lambda x: (x >= low) & (x <= high)

    def _number(self) -> float:
        return float(self._of_kind("number", "a number"))


def _beyond(relation: str, bound: float) -> Callable[[FloatArray], BoolArray]:
    compare = _INEQUALITIES[relation]

    def inside(x: FloatArray) -> BoolArray:
        return compare(x, bound)

    return inside


def _one_of(members: Sequence[float]) -> Callable[[FloatArray], BoolArray]:
    """Return a function that tells which values equal a member, up to rounding."""
    listed = np.array(members)

    def inside(values: FloatArray) -> BoolArray:
        distance = np.abs(values[:, None] - listed)
        return np.asarray((distance <= rounding_error(values, listed)).any(axis=1))

    return inside
