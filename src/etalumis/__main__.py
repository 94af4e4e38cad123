# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`python -m etalumis` is the command `etalumis`."""

import sys

from etalumis.cli import main

if __name__ == "__main__":
    sys.exit(main())
