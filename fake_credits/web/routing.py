"""Own the way from a request line to an operation; know nothing of what an operation does.

Paths are matched raw, segment by segment, each percent-decoded once: what a framework's own router normalises (`//`,
`..`, a trailing slash, `%2F`) is here what the client sent. The table is a dictionary by number of segments and by
the literal ones among them, so a match costs no regular expression.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from fake_credits.contract import Contract, Operation, RouteTemplate, id_problem
from fake_credits.errors import MalformedRequest, MethodNotAllowed, Problem, RouteNotFound

__all__ = ["HTTP_METHODS", "Matched", "RouteTable", "escape", "nearest_route", "segments_of"]

# fmt: off
HTTP_METHODS = frozenset({
    "ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK", "M-SEARCH", "MERGE",
    "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "OPTIONS", "PATCH", "POST", "PROPFIND", "PROPPATCH",
    "PURGE", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK",
    "UNLOCK", "UNSUBSCRIBE",
})
# fmt: on
"""The methods that the live server's HTTP parser knows; any other is no HTTP to it, in process too."""

_COMPARED_SEGMENTS = 16
_COMPARED_CHARACTERS = 64

_REMEMBERED = 1024
_LONGEST = 1024
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Matched(NamedTuple):
    """Be the outcome of routing: the operation and the ids that the path names (user "" where it names none).

    ``flaw`` is how the first bad id breaks the contract's rule (row 24), which only an admitted caller learns.
    ``shown`` is the path, for people.
    """

    operation: Operation
    application_id: str
    user_id: str
    flaw: Problem | None = None
    shown: str = ""


class _Place(NamedTuple):
    operation: Operation
    application_at: int
    user_at: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """Be the routes whose literal segments stand at the same positions."""

    pick: Callable[[Sequence[str]], tuple[str, ...]]
    methods: dict[tuple[str, ...], dict[str, _Place]] = field(default_factory=dict[tuple[str, ...], dict[str, _Place]])


class RouteTable:
    """Match a method and a raw path against a contract's templates, and remember the last.

    It raises MalformedRequest for a path that does not decode or a method that is no HTTP method, RouteNotFound for a
    path of no operation, and MethodNotAllowed for a method that its operation does not have. Refusals are not kept.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._routes = contract.routes
        self._remembering = lru_cache(_REMEMBERED)(self._match)
        self._shapes: dict[int, list[_Shape]] = {}
        by_positions: dict[tuple[int, ...], _Shape] = {}
        # A literal segment goes before a parameter in its place, or nothing could reach it (OpenAPI 3.1, 4.8.8).
        for operation, template in sorted(contract.routes.items(), key=lambda item: item[1].path.count("{")):
            self._add(operation, template, by_positions)

    def __repr__(self) -> str:
        return f"<RouteTable of {len(self._routes)} operations>"

    def _add(self, operation: Operation, template: RouteTemplate, by_positions: dict[tuple[int, ...], _Shape]) -> None:
        segments = template.path.split("/")
        literal_at = tuple(at for at, segment in enumerate(segments) if not segment.startswith("{"))
        key = (len(segments), *literal_at)
        shape = by_positions.get(key)
        if shape is None:
            # Position 0 is the empty text before the first slash: asking for it twice makes itemgetter return a tuple.
            shape = by_positions[key] = _Shape(itemgetter(0, *literal_at))  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]
            self._shapes.setdefault(len(segments), []).append(shape)
        literals = shape.pick(tuple(segments))
        user_at = segments.index("{userId}") if "{userId}" in segments else 0
        place = _Place(operation, segments.index("{applicationId}"), user_at)
        shape.methods.setdefault(literals, {})[template.method] = place

    def match(self, method: str, raw_path: bytes) -> Matched:
        """Return the operation that a request line names; a long path is matched anew each time."""
        return self._remembering(method, raw_path) if len(raw_path) <= _LONGEST else self._match(method, raw_path)

    def _match(self, method: str, raw_path: bytes) -> Matched:
        if method not in HTTP_METHODS:
            raise MalformedRequest(f"{method!r} is no HTTP method")
        segments = segments_of(raw_path)
        methods = self._methods(segments)
        if methods is None:
            raise RouteNotFound(
                f"there is no {method} {escape(raw_path)}; {nearest_route(self._routes, method, segments)}"
            )
        place = methods.get(method)
        if place is None:
            allow = ", ".join(sorted(methods))
            raise MethodNotAllowed(f"{method} is not allowed on {escape(raw_path)}; it takes {allow}", allow=allow)
        application_id, user_id = segments[place.application_at], segments[place.user_at]
        flaw = self._flaw("applicationId", application_id)
        if flaw is None and place.user_at:
            flaw = self._flaw("userId", user_id)
        return Matched(place.operation, application_id, user_id, flaw, escape(raw_path))

    def _flaw(self, field: str, text: str) -> Problem | None:
        problem = id_problem(self._contract, text)
        return Problem(field, problem) if problem else None

    def _methods(self, segments: list[str]) -> dict[str, _Place] | None:
        for shape in self._shapes.get(len(segments), ()):
            methods = shape.methods.get(shape.pick(segments))
            if methods is not None and "" not in segments[1:] and "." not in segments and ".." not in segments:
                return methods
        return None


def nearest_route(routes: Mapping[Operation, RouteTemplate], method: str, segments: list[str]) -> str:
    """Return a sentence that names the known route nearest to a path; of two as near, the one with its method."""
    # Bounded, as the comparison is quadratic and a path may have 60 kB.
    sent = [segment[:_COMPARED_CHARACTERS] for segment in segments[:_COMPARED_SEGMENTS]]

    def likeness(item: tuple[Operation, RouteTemplate]) -> tuple[float, bool]:
        wanted = item[1].path.split("/")
        # From either end, as a prefix that is missing would shift all that follows.
        return max(_likeness(wanted, sent), _likeness(wanted[::-1], sent[::-1])), item[1].method == method

    operation, template = max(routes.items(), key=likeness)
    return f"the nearest operation is {operation}: {template} (a contract's setting routes.{operation} moves it)"


def _likeness(wanted: list[str], sent: list[str]) -> float:
    filled = [text if want.startswith("{") else want for want, text in zip(wanted, sent, strict=False)]
    return difflib.SequenceMatcher(None, "/".join([*filled, *wanted[len(sent) :]]), "/".join(sent)).ratio()


def escape(raw_path: bytes) -> str:
    """Return a raw path as printable ASCII, at most 200 characters of it."""
    text = raw_path.decode("ascii", "backslashreplace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= 200 else text[:200] + "…"


def segments_of(raw_path: bytes) -> list[str]:
    """Return a path's segments, each percent-decoded once; raise MalformedRequest where one does not decode."""
    if b"%" not in raw_path:
        try:
            return raw_path.decode("ascii").split("/")
        except UnicodeDecodeError:
            raise MalformedRequest("the path has bytes outside ASCII: percent-encode them") from None
    return [_decoded(segment) for segment in raw_path.split(b"/")]


def _decoded(segment: bytes) -> str:
    for escaped in segment.split(b"%")[1:]:
        if len(escaped) < 2 or escaped[0] not in _HEX or escaped[1] not in _HEX:
            raise MalformedRequest(f"the path has a % without two hexadecimal digits: {escape(segment)}")
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest(f"the path's segment {escape(segment)} is no UTF-8 once decoded") from None
