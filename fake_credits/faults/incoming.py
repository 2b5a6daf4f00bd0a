"""Own what a rule is matched with: one call before its decision, and the test's own question about it."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from inspect import iscoroutinefunction, signature
from typing import NamedTuple

from fake_credits.contract import Operation
from fake_credits.faults.checks import FaultError, shown

__all__ = ["HeaderTexts", "IncomingCall", "WhereError", "check_where"]


class HeaderTexts(Mapping[str, str]):
    """Be a request's headers as text (Latin-1): names are told in lower case, and asked for in any."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __repr__(self) -> str:
        return f"<HeaderTexts: {', '.join(self) or 'none'}>"

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the name of a header must be a str, not {type(name).__name__}")
        return self._fields[name.lower().encode("utf-8", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class IncomingCall(NamedTuple):
    """Be what a rule is matched with: one call before its decision.

    ``ordinal`` counts the sandbox's exchanges from 1; ``fields`` are the headers as bytes, with lower-case names;
    ``reason`` is empty where the call has none that can be read.
    """

    ordinal: int
    operation: Operation
    application: str
    user: str
    client: str
    reason: str
    fields: Mapping[bytes, bytes]
    now_ms: int

    @property
    def headers(self) -> HeaderTexts:
        """Return the headers as text: ``call.headers.get("X-Tenant") == "acme"``, in any case of the name."""
        return HeaderTexts(self.fields)


class WhereError(Exception):
    """Tell that the function of a rule raised: ``problem`` in a line, and ``told`` with the function's traceback."""

    def __init__(self, rule: str, error: Exception) -> None:
        self.rule = rule
        self.problem = f"the function `where` of the rule {rule!r} raised {type(error).__name__}: {error}"
        own = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of the fake
        lines = traceback.format_exception(type(error), error, own or error.__traceback__)
        self.told = f"{self.problem}\n{''.join(lines).rstrip()}"
        super().__init__(self.problem)


def check_where(where: object) -> None:
    """Raise FaultError for what is no function that can be called with a call alone."""
    if where is None:
        return
    if not callable(where) or iscoroutinefunction(where):
        raise FaultError(f"where is {shown(where)}, a {type(where).__name__}: it must be a function of a call")
    try:
        bind: Callable[[object], object] = signature(where).bind
    except (TypeError, ValueError):
        return  # one of C that does not tell
    try:
        bind(None)
    except TypeError as error:
        raise FaultError(f"where is {shown(where)}: it is called with one argument, a call ({error})") from None
