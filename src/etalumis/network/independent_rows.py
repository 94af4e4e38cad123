# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Products and cells whose rows do not depend on one another, bit for bit, so that neither do the lanes of a session.

BLAS computes small matrices by other routines, whose sums depend on the number of rows or on the place of a row: MKL
does so on some CPUs for 1 to 3 rows, and for 1, 5-7 or 9-11 columns. Zeros are appended to such matrices.
"""

import torch
from torch import Tensor, nn

_MIN_ROWS, _MIN_COLUMNS = 8, 16


def affine(offset: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return offset + x @ weight, where each row of the result depends on the same row of `x` only, bit for bit."""
    rows = len(x)
    if rows >= _MIN_ROWS:
        return torch.addmm(offset, x, weight)
    x = torch.cat([x, x.new_zeros(_MIN_ROWS - rows, x.shape[1])])
    if offset.ndim == 2:
        offset = torch.cat([offset, offset.new_zeros(_MIN_ROWS - rows, offset.shape[1])])
    return torch.addmm(offset, x, weight)[:rows]


def widened(table: Tensor) -> Tensor:
    """Return a vector or a matrix with at least `_MIN_COLUMNS` entries along each axis."""
    missing = [max(0, _MIN_COLUMNS - size) for size in table.shape]
    return nn.functional.pad(table, [number for count in reversed(missing) for number in (0, count)])


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next (hidden, cell); the gates are in torch's order: input, forget, candidate, output."""
    hidden = cell.shape[1]
    opened = torch.sigmoid(gates)
    cell = opened[:, hidden : 2 * hidden] * cell + opened[:, :hidden] * torch.tanh(gates[:, 2 * hidden : 3 * hidden])
    return opened[:, 3 * hidden :] * torch.tanh(cell), cell
