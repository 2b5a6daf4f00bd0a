"""Whole lists, page by page, sync and async."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from fake_credits.errors import InvalidResponse

__all__ = ["AsyncItemIterator", "Page", "iter_items"]

__tracebackhide__ = True  # a failing test shows the caller's line, not ours

T = TypeVar("T")
P = TypeVar("P", bound="Page")


class Page(Protocol):
    """Be a page of any list."""

    @property
    def next_cursor(self) -> str | None:
        """Return where the next page begins; None on the last one."""
        ...


class _SeenCursors:
    """Remember the cursors that a walk has followed."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def next_cursor(self, page: Page) -> str | None:
        """Return the next cursor; raise `InvalidResponse` for one seen before, as the walk would never end."""
        cursor = page.next_cursor
        if cursor is None:
            return None
        if cursor in self._seen:
            raise InvalidResponse(
                f"the API gave out the cursor {cursor!r} a second time: the list has no end", status=200
            )
        self._seen.add(cursor)
        return cursor


def iter_items(fetch_page: Callable[[str | None], P], items_of: Callable[[P], Sequence[T]]) -> Iterator[T]:
    """Yield the items of all pages, each page fetched when it is needed."""
    seen, page = _SeenCursors(), fetch_page(None)
    yield from items_of(page)
    while (cursor := seen.next_cursor(page)) is not None:
        page = fetch_page(cursor)
        yield from items_of(page)


class AsyncItemIterator(AsyncIterator[T], Generic[T, P]):
    """Be the async twin of `iter_items`.

    An object, not an async generator: a loop that breaks off leaves no generator behind for the event loop to close.
    """

    def __init__(self, fetch_page: Callable[[str | None], Awaitable[P]], items_of: Callable[[P], Sequence[T]]) -> None:
        self._fetch_page = fetch_page
        self._items_of = items_of
        self._seen = _SeenCursors()
        self._page: P | None = None
        self._pending: deque[T] = deque()

    async def __anext__(self) -> T:
        while not self._pending:
            cursor = None if self._page is None else self._seen.next_cursor(self._page)
            if self._page is not None and cursor is None:
                raise StopAsyncIteration
            self._page = await self._fetch_page(cursor)
            self._pending.extend(self._items_of(self._page))
        return self._pending.popleft()
