# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Written by `flatc --python --gen-onefile` 2.0.8 from resources/ppx/ppx.fbs; do not edit, regenerate."""
