# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Type aliases that many modules use."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = np.ndarray[Any, Any]
"""An array of any shape and dtype."""
FloatArray: TypeAlias = NDArray[np.float64]
"""An array of any shape in double precision."""
