"""Routing: finding the operation and the ids for a method and a path.

Raw paths are matched segment by segment, and each segment is percent-decoded once. Unlike in many web frameworks,
nothing is normalized (`//`, `..`, a trailing slash, `%2F`). Routes are looked up by the number of segments and by the
literal segments, without regular expressions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from fake_credits.contract import Contract, Operation, RouteTemplate, id_problem
from fake_credits.errors import MalformedRequest, MethodNotAllowed, Problem, RouteNotFound
from fake_credits.http_message import HTTP_METHODS
from fake_credits.text import escape_control, truncate

_MAX_COMPARED_SEGMENTS = 16
_MAX_COMPARED_CHARS = 64

_MAX_CACHED_MATCHES = 1024
MAX_CACHED_PATH_BYTES = 1024
"""Longer paths are not cached, which bounds the size of the cache."""

_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class RouteMatch(NamedTuple):
    """The operation for a method and a path, and the ids in the path; ``user_id`` is empty if there is none.

    ``id_error`` is the problem with the first invalid id (docs/reference/contract.md, row 24); only authorized callers
    see it. ``printable_path`` is the path, escaped and truncated for messages.
    """

    operation: Operation
    application_id: str
    user_id: str
    id_error: Problem | None = None
    printable_path: str = ""


class _Endpoint(NamedTuple):
    operation: Operation
    application_index: int
    user_index: int


class _PathPattern(msgspec.Struct, frozen=True):
    """Routes of the same length whose literal segments are at the same positions."""

    literals_of: Callable[[Sequence[str]], tuple[str, ...]]
    endpoints: dict[tuple[str, ...], dict[str, _Endpoint]]


class RouteTable:
    """The routes of a contract; ``cached_match`` is `match` with a cache, to be used only for short paths.

    `match` raises MalformedRequest if the path can't be decoded or the HTTP method is unknown, RouteNotFound if no
    operation has the path, and MethodNotAllowed if the path exists but does not support the method.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._routes = contract.routes
        self.cached_match = lru_cache(_MAX_CACHED_MATCHES)(self.match)
        self._patterns_by_length: dict[int, list[_PathPattern]] = {}
        patterns: dict[tuple[int, ...], _PathPattern] = {}
        # A literal segment takes precedence over a parameter at the same position (OpenAPI 3.1, section 4.8.8).
        for operation, template in sorted(contract.routes.items(), key=lambda item: item[1].path.count("{")):
            self._add(operation, template, patterns)

    def _add(
        self, operation: Operation, template: RouteTemplate, patterns: dict[tuple[int, ...], _PathPattern]
    ) -> None:
        segments = template.path.split("/")
        literal_indexes = tuple(index for index, segment in enumerate(segments) if not segment.startswith("{"))
        key = (len(segments), *literal_indexes)
        pattern = patterns.get(key)
        if pattern is None:
            # Segment 0, before the first slash, is always empty; including it makes itemgetter always return a tuple.
            pattern = patterns[key] = _PathPattern(itemgetter(0, *literal_indexes), {})  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]
            self._patterns_by_length.setdefault(len(segments), []).append(pattern)
        literals = pattern.literals_of(tuple(segments))
        user_index = segments.index("{userId}") if "{userId}" in segments else 0
        endpoint = _Endpoint(operation, segments.index("{applicationId}"), user_index)
        pattern.endpoints.setdefault(literals, {})[template.method] = endpoint

    def match(self, method: str, raw_path: bytes) -> RouteMatch:
        """Return the operation and ids for a method and a path."""
        if method not in HTTP_METHODS:
            raise MalformedRequest(f"unknown HTTP method {method!r}")
        segments = split_path(raw_path)
        endpoints = self._find_endpoints(segments)
        if endpoints is None:
            hint = self._path_hint(method, raw_path, segments) or closest_route(self._routes, method, segments)
            raise RouteNotFound(f"{method} {escape_path(raw_path)} does not exist; {hint}")
        endpoint = endpoints.get("GET" if method == "HEAD" else method)  # RFC 9110, section 9.3.2
        if endpoint is None:
            allow = ", ".join(sorted({*endpoints, "HEAD"} if "GET" in endpoints else endpoints))
            raise MethodNotAllowed(f"{method} is not allowed on {escape_path(raw_path)}; use {allow}", allow=allow)
        application_id, user_id = segments[endpoint.application_index], segments[endpoint.user_index]
        id_error = self._id_error("applicationId", application_id)
        if id_error is None and endpoint.user_index:
            id_error = self._id_error("userId", user_id)
        return RouteMatch(endpoint.operation, application_id, user_id, id_error, escape_path(raw_path))

    def has_path(self, raw_path: bytes) -> bool:
        """Return whether any operation has this path."""
        try:
            return self._find_endpoints(split_path(raw_path)) is not None
        except MalformedRequest:
            return False

    def find_path_end(self, method: str, raw_path: bytes) -> tuple[Operation, bytes] | None:
        """Find the operation whose path is at the end of ``raw_path``.

        Returns the operation and the part before its path, without a trailing slash, or None if no path matches.
        Operations whose path has no literal segment are ignored, because they would match the end of nearly any path.
        """
        raw_segments = raw_path.rstrip(b"/").split(b"/")
        try:
            segments = split_path(b"/".join(raw_segments))
        except MalformedRequest:
            return None
        for operation, prefix_length in self._path_ends(method, segments):
            path = self._routes[operation].path
            if any(segment and not segment.startswith("{") for segment in path.split("/")):
                return operation, b"/".join(raw_segments[:prefix_length])
        return None

    def _id_error(self, field: str, text: str) -> Problem | None:
        problem = id_problem(self._contract, text)
        return Problem(field, problem) if problem else None

    def _path_hint(self, method: str, raw_path: bytes, segments: list[str]) -> str:
        """Return a hint if the path has a trailing slash, lacks a prefix or has an extra one, else ""."""
        if not segments[-1] and (operation := self._find_operation(method, segments[:-1])):
            return f"remove the trailing slash to call {operation}"
        for first in dict.fromkeys(template.path.split("/")[1] for template in self._routes.values()):
            if not first.startswith("{") and (operation := self._find_operation(method, ["", first, *segments[1:]])):
                return f"add the prefix /{first} to call {operation}"
        for operation, prefix_length in self._path_ends(method, segments):
            prefix = escape_path(b"/".join(raw_path.split(b"/")[:prefix_length]))
            problem = f"has the extra prefix {prefix}" if prefix.strip("/") else "has a trailing slash"
            return f"it ends with the path of {operation}, so your base URL {problem}"
        return ""

    def _path_ends(self, method: str, segments: list[str]) -> Iterator[tuple[Operation, int]]:
        """Yield operations that match the end of a path, longest match first, with the number of segments before it."""
        for length in sorted(self._patterns_by_length, reverse=True):
            prefix_length = len(segments) - length + 1
            operation = self._find_operation(method, ["", *segments[prefix_length:]]) if prefix_length > 0 else None
            if operation is not None:
                yield operation, prefix_length

    def _find_operation(self, method: str, segments: list[str]) -> Operation | None:
        """Return an operation with this path, preferably one with this method, or None if there is none."""
        endpoints = self._find_endpoints(segments)
        return (endpoints.get(method) or next(iter(endpoints.values()))).operation if endpoints else None

    def _find_endpoints(self, segments: list[str]) -> dict[str, _Endpoint] | None:
        for pattern in self._patterns_by_length.get(len(segments), ()):
            endpoints = pattern.endpoints.get(pattern.literals_of(segments))
            if endpoints is not None and "" not in segments[1:] and "." not in segments and ".." not in segments:
                return endpoints
        return None


def closest_route(routes: Mapping[Operation, RouteTemplate], method: str, segments: list[str]) -> str:
    """Return a hint that names the route closest to a path; the method breaks ties."""
    # Limited, because the comparison takes quadratic time and a path can be 64 KiB long.
    compared_segments = [segment[:_MAX_COMPARED_CHARS] for segment in segments[:_MAX_COMPARED_SEGMENTS]]

    def similarity(item: tuple[Operation, RouteTemplate]) -> tuple[float, bool]:
        template_segments = item[1].path.split("/")
        # Compared from both ends, because a missing prefix shifts all other segments.
        return max(
            _similarity(template_segments, compared_segments),
            _similarity(template_segments[::-1], compared_segments[::-1]),
        ), item[1].method == method

    operation, template = max(routes.items(), key=similarity)
    return f"the nearest operation is {operation}: {template} (configurable as routes.{operation} in the contract)"


def _similarity(template_segments: list[str], segments: list[str]) -> float:
    filled = [
        actual if expected.startswith("{") else expected
        for expected, actual in zip(template_segments, segments, strict=False)
    ]
    from difflib import SequenceMatcher  # rarely needed, and slow to import

    return SequenceMatcher(None, "/".join([*filled, *template_segments[len(segments) :]]), "/".join(segments)).ratio()


def escape_path(raw_path: bytes) -> str:
    """Return a raw path as printable ASCII, truncated to 200 characters."""
    return truncate(escape_control(raw_path.decode("ascii", "backslashreplace")), 200)


def split_path(raw_path: bytes) -> list[str]:
    """Return a path's segments, each percent-decoded once; raise MalformedRequest if one can't be decoded."""
    if b"%" not in raw_path:
        try:
            return raw_path.decode("ascii").split("/")
        except UnicodeDecodeError:
            raise MalformedRequest("the path contains non-ASCII bytes: percent-encode them") from None
    return [_decode_segment(segment) for segment in raw_path.split(b"/")]


def _decode_segment(segment: bytes) -> str:
    for escaped in segment.split(b"%")[1:]:
        if len(escaped) < 2 or escaped[0] not in _HEX_DIGITS or escaped[1] not in _HEX_DIGITS:
            raise MalformedRequest(
                f"the path has a '%' that is not followed by two hexadecimal digits: {escape_path(segment)}"
            )
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest(f"the path segment {escape_path(segment)} does not decode to valid UTF-8") from None
