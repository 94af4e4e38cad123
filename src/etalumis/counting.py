# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Numbers of things in messages."""


def counted(number: int, singular: str) -> str:
    """Return a number and what it counts, a noun with a regular plural: "1 type", "1,200 types"."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"
