# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Cache of decoded chunks that evicts the least recently used ones."""

import os
import threading
from collections import OrderedDict

import numpy as np

Key = tuple[int, int]
"""Number of a column in this process, and number of the chunk in the column."""


class ChunkCache:
    """Decoded chunks up to a number of bytes. The cache is thread-safe, and empty after a fork."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, np.ndarray] = OrderedDict()
        self.nbytes = 0

    def get(self, key: Key) -> np.ndarray | None:
        """Return the chunk `key`, or None if it is not in the cache."""
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            chunk = self._held.get(key)
            if chunk is not None:
                self._held.move_to_end(key)
            return chunk

    def put(self, key: Key, chunk: np.ndarray) -> None:
        """Add `chunk` and evict others as necessary; a chunk larger than the whole cache is not added."""
        if chunk.nbytes > self._budget:
            return
        with self._lock:
            before = self._held.pop(key, None)
            self.nbytes += chunk.nbytes - (0 if before is None else before.nbytes)
            self._held[key] = chunk
            while self.nbytes > self._budget:
                _, dropped = self._held.popitem(last=False)
                self.nbytes -= dropped.nbytes
