"""The control plane's routes: matching paths, and decoding queries and bodies."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args, get_type_hints

import msgspec
from starlette.datastructures import QueryParams
from starlette.routing import Match, Route

from fake_credits import control_schemas as schemas
from fake_credits.api.routing import escape_path, split_path
from fake_credits.control import handlers
from fake_credits.control.inputs import validation_error
from fake_credits.errors import ControlError
from fake_credits.strict_json import JsonError, parse_json
from fake_credits.text import truncate

_SANDBOX_PATH = "/sandboxes/{sandbox}"
_USER_PATH = f"{_SANDBOX_PATH}/users/{{user}}"


class ControlRoute(Route):
    """A route; its handler gets the query parameters (for GET and DELETE) or the members of the body.

    Handlers run in worker threads, except for coroutine functions, which run in the server's event loop.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Callable[..., object],
        schema: type[object] = schemas.NoMembers,
        *,
        status: int = 200,
    ) -> None:
        super().__init__(path, handler, methods=[method])
        self.method = method
        self.schema = schema
        self.status = status

    def parse(self, query: QueryParams, body: bytes) -> object:
        """Decode a request's query or body according to the route's schema; raise ControlError for invalid input."""
        if len(query) < len(query.multi_items()):
            raise validation_error("", "a query parameter must not be repeated")
        has_query = self.method in ("GET", "DELETE")
        parameters = _convert(dict(query), self.schema if has_query else schemas.NoMembers, strict=False)
        members = _convert(_parse_body(body), schemas.NoMembers if has_query else self.schema, strict=True)
        return parameters if has_query else members

    def call(self, request: object, members: object) -> Any:
        """Call the handler, passing the members only if the route's schema has any."""
        return self.endpoint(request) if self.schema is schemas.NoMembers else self.endpoint(request, members)


CONTROL_ROUTES = (
    ControlRoute("POST", "/sandboxes", handlers.make_sandbox, schemas.MakeSandboxBody, status=201),
    ControlRoute("GET", "/sandboxes", handlers.list_sandboxes),
    ControlRoute("GET", _SANDBOX_PATH, handlers.get_sandbox),
    ControlRoute("POST", f"{_SANDBOX_PATH}/reset", handlers.reset_sandbox),
    ControlRoute("GET", f"{_SANDBOX_PATH}/problems", handlers.get_problems),
    ControlRoute("DELETE", _SANDBOX_PATH, handlers.close_sandbox),
    ControlRoute("GET", f"{_SANDBOX_PATH}/users", handlers.list_users, schemas.UserQuery),
    ControlRoute("PUT", _USER_PATH, handlers.set_user, schemas.SetUserBody),
    ControlRoute("GET", _USER_PATH, handlers.get_user, schemas.UserQuery),
    ControlRoute("DELETE", _USER_PATH, handlers.delete_user, schemas.UserQuery),
    ControlRoute("GET", f"{_USER_PATH}/transactions", handlers.list_transactions, schemas.UserQuery),
    ControlRoute(
        "POST", f"{_USER_PATH}/transactions", handlers.add_transactions, schemas.AddTransactionsBody, status=201
    ),
    ControlRoute("POST", f"{_SANDBOX_PATH}/tokens", handlers.mint_token, schemas.MintTokenBody, status=201),
    ControlRoute("POST", f"{_SANDBOX_PATH}/bindings", handlers.bind_user, schemas.Binding, status=201),
    ControlRoute("GET", f"{_SANDBOX_PATH}/journal", handlers.query_journal, schemas.JournalQuery),
    ControlRoute("GET", f"{_SANDBOX_PATH}/journal/canonical", handlers.get_canonical_journal),
    ControlRoute("POST", f"{_SANDBOX_PATH}/faults", handlers.add_fault, schemas.JsonMembers, status=201),
    ControlRoute("POST", f"{_SANDBOX_PATH}/faults/load", handlers.load_faults, schemas.JsonMembers, status=201),
    ControlRoute("GET", f"{_SANDBOX_PATH}/faults", handlers.list_faults),
    ControlRoute("GET", f"{_SANDBOX_PATH}/faults/{{rule}}", handlers.get_fault),
    ControlRoute("DELETE", f"{_SANDBOX_PATH}/faults/{{rule}}", handlers.remove_fault),
    ControlRoute("DELETE", f"{_SANDBOX_PATH}/faults", handlers.clear_faults),
    ControlRoute("GET", "/presets", handlers.list_presets),
    ControlRoute("POST", f"{_SANDBOX_PATH}/gates", handlers.hold_gate, schemas.JsonMembers, status=201),
    ControlRoute("GET", f"{_SANDBOX_PATH}/gates", handlers.list_gates),
    ControlRoute("GET", f"{_SANDBOX_PATH}/gates/{{gate}}", handlers.get_gate),
    ControlRoute("POST", f"{_SANDBOX_PATH}/gates/{{gate}}/wait", handlers.wait_at_gate, schemas.WaitAtGateBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/gates/{{gate}}/release", handlers.release_gate, schemas.ReleaseGateBody),
    ControlRoute("GET", f"{_SANDBOX_PATH}/clock", handlers.get_clock),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/freeze", handlers.freeze_clock, schemas.FreezeClockBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/advance", handlers.advance_clock, schemas.AdvanceClockBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/travel", handlers.travel_clock, schemas.TravelClockBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/settle", handlers.settle_clock),
)
"""All routes, with their paths below ``/_fake``; see "Control plane" in the docs."""


def match_route(method: str, raw_path: bytes) -> tuple[ControlRoute, Mapping[str, str]]:
    """Return the route for a method and a path, with the decoded path parameters.

    Raises ControlError for an unknown path or an unsupported method, and MalformedRequest for a parameter that can't be
    decoded.
    """
    scope = {"type": "http", "method": method, "path": raw_path.decode("latin-1"), "root_path": "/_fake"}
    matches = [
        (route, found["path_params"])
        for route in CONTROL_ROUTES
        for match, found in [route.matches(scope)]
        if match is not Match.NONE
    ]
    request_line = f"{method} {escape_path(raw_path)}"
    if not matches:
        raise ControlError(
            "route_not_found", f'{request_line} does not exist; for valid paths, see "Control plane" in the docs'
        )
    for route, path_params in matches:
        if route.method == method:
            return route, {name: split_path(text.encode("latin-1"))[0] for name, text in path_params.items()}
    allow = ", ".join(sorted({route.method for route, _ in matches}))
    raise ControlError("method_not_allowed", f"{request_line} is not allowed; use {allow}", allow=allow)


# ------------------------------------------------------------ queries and bodies


def _parse_body(body: bytes) -> Mapping[str, object]:
    """Return the members of a body; an empty body has none."""
    try:
        content = parse_json(body or b"{}", parse_float=float)
    except JsonError as error:
        raise ControlError("malformed_json", str(error)) from None
    if not isinstance(content, dict):
        raise validation_error("", "the body must be a JSON object")
    return cast("dict[str, object]", content)


_JSON_TYPES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def _convert(members: Mapping[str, object], schema: type[object], *, strict: bool) -> object:
    try:
        return msgspec.convert(members, schema, strict=strict)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        field = path.strip("`").lstrip(".")
        hints = get_type_hints(schema)
        if "unknown field" in problem:
            raise validation_error(
                problem.split("`")[1], f"is not allowed here; allowed: {', '.join(hints) or 'none'}"
            ) from None
        if "missing required field" in problem:
            raise validation_error(problem.split("`")[1], "is missing") from None
        if "enum" in problem:
            expected = " or ".join(map(json.dumps, get_args(hints[field])))
        else:
            # msgspec's message, such as "Expected `int | null`, got `str`"
            match = cast("re.Match[str]", re.match(r"Expected `(.+?)`( [^,]+)?", problem))
            expected = " or ".join(_JSON_TYPES[name] for name in match[1].split(" | ")) + (match[2] or "")
        got = f", got {truncate(json.dumps(members[field], ensure_ascii=False))}" if field in members else ""
        raise validation_error(field, f"must be {expected}{got}") from None
