# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Prefetching in a background thread, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Prefetcher(Generic[P, T]):
    """Calls a function in a background thread and returns the results in the order of the requests.

    Close it, or use it as a context manager. Closing waits for the running call and discards pending results.

    Parameters
    ----------
    read
        The function. Decoding and drawing noise release the GIL most of the time.
    """

    def __init__(self, read: Callable[P, T]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._asked: deque[Future[T]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of pending results."""
        return len(self._asked)

    def ask(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Request a call with these arguments."""
        self._asked.append(self._thread.submit(self._read, *args, **kwargs))

    def take(self) -> T:
        """Wait for the oldest pending result and return it, or raise its exception."""
        return self._asked.popleft().result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._asked.clear()


def read_ahead(read: Callable[..., T], requests: Iterable[tuple[object, ...]], ahead: int) -> Iterator[T]:
    """Yield `read(*request)` for each request, in order, and read up to `ahead` of them in advance.

    With `ahead` 0, nothing runs in the background. An exception of `read` is raised in place of its result.
    """
    if ahead < 1:
        for request in requests:
            yield read(*request)
        return
    waiting = iter(requests)
    with closing(Prefetcher(read)) as prefetcher:
        for request in waiting:
            prefetcher.ask(*request)
            if len(prefetcher) > ahead:
                yield prefetcher.take()
        while len(prefetcher):
            yield prefetcher.take()
