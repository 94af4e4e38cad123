# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Numbers of things in messages."""


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number and what it counts: "1 type", "1,200 types". The default plural ends in s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
