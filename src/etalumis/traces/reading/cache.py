# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Decoded chunks in memory, the least recently used dropped first."""

import os
import threading
from collections import OrderedDict

import numpy as np

Key = tuple[int, int]
"""Number of a column in this process, number of the chunk in it."""


class ChunkCache:
    """Chunks within a budget of bytes; any thread may ask, and a forked process starts with an empty one."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, np.ndarray] = OrderedDict()
        self.nbytes = 0

    def get(self, key: Key) -> np.ndarray | None:
        """Return the chunk `key` where it is held."""
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            chunk = self._held.get(key)
            if chunk is not None:
                self._held.move_to_end(key)
            return chunk

    def put(self, key: Key, chunk: np.ndarray) -> None:
        """Hold `chunk`, and drop others until the budget is kept; one that is larger than the budget is not held."""
        if chunk.nbytes > self._budget:
            return
        with self._lock:
            before = self._held.pop(key, None)
            self.nbytes += chunk.nbytes - (0 if before is None else before.nbytes)
            self._held[key] = chunk
            while self.nbytes > self._budget:
                _, dropped = self._held.popitem(last=False)
                self.nbytes -= dropped.nbytes
