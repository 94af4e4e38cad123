# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Labels of decay channels."""

from collections import Counter
from collections.abc import Iterable

_NU = "\N{GREEK SMALL LETTER NU}"
_ANTI_NU = _NU + "\N{COMBINING MACRON}"

# PDG Monte Carlo numbers of the decay products of a tau, in the order in which a label lists them
_SYMBOLS = {
    11: "e⁻", -11: "e⁺", 13: "μ⁻", -13: "μ⁺",
    -211: "π⁻", 211: "π⁺", 111: "π⁰", -321: "K⁻", 321: "K⁺", 310: "K_S", 130: "K_L", 311: "K⁰", -311: "K̄⁰",
    221: "η", 331: "η'", 113: "ρ⁰", 223: "ω", 22: "\N{GREEK SMALL LETTER GAMMA}",
    12: f"{_NU}_e", -12: f"{_ANTI_NU}_e", 14: f"{_NU}_μ", -14: f"{_ANTI_NU}_μ", 16: f"{_NU}_τ", -16: f"{_ANTI_NU}_τ",
}  # fmt: skip
_ORDER = {pdg: place for place, pdg in enumerate(_SYMBOLS)}


def products_label(products: Iterable[int]) -> str:
    """Return the label of a decay with these products, e.g. ``π⁻ 2π⁰`` for ``[-211, 111, 111]``.

    A particle without a symbol is shown by its PDG number.
    """
    counts = Counter(products)
    ordered = sorted(counts, key=lambda pdg: (_ORDER.get(pdg, len(_ORDER)), pdg))
    return " ".join(f"{counts[pdg] if counts[pdg] > 1 else ''}{_SYMBOLS.get(pdg, f'({pdg})')}" for pdg in ordered)
