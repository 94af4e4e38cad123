# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Seeds derived from (run seed, stage, index), so that every draw of the pipeline can be reproduced on its own."""

import hashlib

import numpy as np


def derive(run_seed: int, stage: str, index: int) -> int:
    """Return a 63-bit seed for item `index` of `stage`; distinct inputs give independent streams."""
    key = f"{run_seed}/{stage}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def generator(run_seed: int, stage: str, index: int) -> np.random.Generator:
    """Return the generator of item `index` of `stage` (PCG64)."""
    return np.random.Generator(np.random.PCG64(derive(run_seed, stage, index)))
