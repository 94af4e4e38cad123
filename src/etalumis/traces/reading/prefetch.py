# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Read ahead in the background, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Prefetcher(Generic[P, T]):
    """Calls a function in one background thread; the results are taken in the order in which they were asked for.

    Close it, or use it as a context manager: closing waits for the call under way and drops what was not taken.

    Parameters
    ----------
    read
        The function; decoding and drawing noise in it leave Python's lock to the caller for most of their time.
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
        """Return how many results were asked for and not taken."""
        return len(self._asked)

    def ask(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Ask for a call with these arguments."""
        self._asked.append(self._thread.submit(self._read, *args, **kwargs))

    def take(self) -> T:
        """Return the result of the oldest call that was not taken, and wait for it; its error is raised here."""
        return self._asked.popleft().result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._asked.clear()


def read_ahead(read: Callable[..., T], requests: Iterable[tuple[object, ...]], ahead: int) -> Iterator[T]:
    """Yield `read(*request)` of each request, in order; up to `ahead` of them are read before they are wanted.

    With `ahead` 0 nothing runs in the background. An error of `read` is raised where its result would have come.
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
