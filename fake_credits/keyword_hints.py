"""TypeErrors that suggest the keyword when a keyword-only argument is passed by position."""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

from fake_credits.text import short_repr

P = ParamSpec("P")
T = TypeVar("T")


def keyword_hint(keyword: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a method: its TypeError for too many positional arguments suggests ``keyword`` for the first extra
    one."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        code = cast("Any", method).__code__
        limit = code.co_argcount
        accepted = "1 positional argument" if limit == 2 else f"{limit - 1 or 'no'} positional arguments"
        keywords = code.co_varnames[limit : limit + code.co_kwonlyargcount]

        def check(args: tuple[object, ...]) -> None:
            if len(args) > limit:
                name = method.__qualname__.removesuffix(".__init__")
                given = [*map(short_repr, args[1:limit]), f"{keyword}={short_repr(args[limit])}"]
                raise TypeError(
                    f"{name}() takes {accepted} (keywords: {', '.join(keywords)}): "
                    f"use {name.rpartition('.')[2]}({', '.join(given)})"
                )

        @wraps(method)
        def checked_method(*args: P.args, **kwargs: P.kwargs) -> T:
            __tracebackhide__ = True
            check(args)
            return method(*args, **kwargs)

        @wraps(method)
        async def checked_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            __tracebackhide__ = True
            check(args)
            return await cast("Any", method)(*args, **kwargs)

        return cast("Callable[P, T]", checked_coroutine) if iscoroutinefunction(method) else checked_method

    return decorate
