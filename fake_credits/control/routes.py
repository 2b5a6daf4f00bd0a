"""The table of the control plane's routes: method, path, handler and schemas."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fake_credits.control import handlers, schemas
from fake_credits.control.request import ControlRequest
from fake_credits.errors import ControlError

__all__ = ["CONTROL_ROUTES", "ControlRoute", "match_route"]

_SANDBOX_PATH = "/sandboxes/{sandbox}"


@dataclass(frozen=True)
class ControlRoute:
    """Be one row: where a verb is found, what its query and body may hold, and its status.

    ``handler`` is run in a worker thread; ``async_handler`` takes its place for one that waits in the server's loop.
    """

    method: str
    path: str
    handler: Callable[[ControlRequest], object] | None = None
    body: type[object] = schemas.EmptySchema
    query: type[object] = schemas.EmptySchema
    status: int = 200
    async_handler: Callable[[ControlRequest], Awaitable[object]] | None = None
    segments: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.path.split("/")[1:]))

    @property
    def summary(self) -> str:
        """Return what the verb does, in its own words."""
        return (getattr(self.handler or self.async_handler, "__doc__", "") or "").partition("\n")[0]

    def match_path(self, segments: Sequence[str]) -> Mapping[str, str] | None:
        """Return the parts that a path's segments give this one's names, None where it is another path."""
        if len(segments) != len(self.segments):
            return None
        pairs = list(zip(self.segments, segments, strict=True))
        if not all(sent if mine.startswith("{") else mine == sent for mine, sent in pairs):
            return None
        return {template.strip("{}"): segment for template, segment in pairs if template.startswith("{")}


CONTROL_ROUTES = (
    ControlRoute("POST", "/sandboxes", handlers.make_sandbox, schemas.MakeSandboxBody, status=201),
    ControlRoute("GET", "/sandboxes", handlers.list_sandboxes),
    ControlRoute("GET", _SANDBOX_PATH, handlers.get_sandbox),
    ControlRoute("POST", f"{_SANDBOX_PATH}/reset", handlers.reset_sandbox),
    ControlRoute("GET", f"{_SANDBOX_PATH}/problems", handlers.get_problems),
    ControlRoute("DELETE", _SANDBOX_PATH, handlers.close_sandbox),
    ControlRoute("PUT", f"{_SANDBOX_PATH}/users/{{user}}", handlers.set_user, schemas.SetUserBody),
    ControlRoute("GET", f"{_SANDBOX_PATH}/users/{{user}}", handlers.get_user, query=schemas.UserQuery),
    ControlRoute("POST", f"{_SANDBOX_PATH}/tokens", handlers.mint_token, schemas.MintTokenBody, status=201),
    ControlRoute("GET", f"{_SANDBOX_PATH}/journal", handlers.query_journal, query=schemas.JournalQuery),
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
    ControlRoute(
        "POST", f"{_SANDBOX_PATH}/gates/{{gate}}/wait", body=schemas.WaitAtGateBody, async_handler=handlers.wait_at_gate
    ),
    ControlRoute("POST", f"{_SANDBOX_PATH}/gates/{{gate}}/release", handlers.release_gate, schemas.ReleaseGateBody),
    ControlRoute("GET", f"{_SANDBOX_PATH}/clock", handlers.get_clock),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/freeze", handlers.freeze_clock, schemas.FreezeClockBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/advance", handlers.advance_clock, schemas.AdvanceClockBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/travel", handlers.travel_clock, schemas.TravelClockBody),
    ControlRoute("POST", f"{_SANDBOX_PATH}/clock/settle", handlers.settle_clock),
)
"""Every route, its path below ``/_fake``; README, "The control plane"."""


def match_route(method: str, segments: Sequence[str], request_line: str) -> tuple[ControlRoute, Mapping[str, str]]:
    """Return the route of a method and a path's segments below the prefix, with the parts that the path names.

    Raises ControlError where there is no such path, and where it takes other methods.
    """
    matches = [
        (route, path_params) for route in CONTROL_ROUTES if (path_params := route.match_path(segments)) is not None
    ]
    if not matches:
        raise ControlError(
            "route_not_found", f'there is no {request_line} (README, "The control plane", lists the paths)'
        )
    for route, path_params in matches:
        if route.method == method:
            return route, path_params
    allow = ", ".join(sorted({route.method for route, _ in matches}))
    raise ControlError("method_not_allowed", f"{request_line} is not allowed: the path takes {allow}", allow=allow)
