"""Own the table of the control plane's routes: method, path, verb and shapes; know nothing of what verbs do."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fake_credits.errors import ControlError
from fake_credits.web.control import bad_days, shapes, verbs
from fake_credits.web.control.call import ControlCall

__all__ = ["ROUTES", "ControlRoute", "match"]

_SANDBOX = "/sandboxes/{sandbox}"


@dataclass(frozen=True)
class ControlRoute:
    """Be one row: where a verb is found, what its query and body may hold, and its status.

    ``verb`` is run in a worker thread; ``waits`` takes its place for one that waits in the server's loop.
    """

    method: str
    path: str
    verb: Callable[[ControlCall], object] | None = None
    body: type[object] = shapes.Empty
    query: type[object] = shapes.Empty
    status: int = 200
    waits: Callable[[ControlCall], Awaitable[object]] | None = None
    segments: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.path.split("/")[1:]))

    @property
    def explains(self) -> str:
        """Return what the verb does, in its own words."""
        return (getattr(self.verb or self.waits, "__doc__", "") or "").partition("\n")[0]

    def parts(self, segments: Sequence[str]) -> Mapping[str, str] | None:
        """Return the parts that a path's segments give this one's names, None where it is another path."""
        if len(segments) != len(self.segments):
            return None
        pairs = list(zip(self.segments, segments, strict=True))
        if not all(sent if mine.startswith("{") else mine == sent for mine, sent in pairs):
            return None
        return {mine.strip("{}"): sent for mine, sent in pairs if mine.startswith("{")}


ROUTES = (
    ControlRoute("POST", "/sandboxes", verbs.make_sandbox, shapes.NewSandbox, status=201),
    ControlRoute("GET", "/sandboxes", verbs.list_sandboxes),
    ControlRoute("GET", _SANDBOX, verbs.get_sandbox),
    ControlRoute("POST", f"{_SANDBOX}/reset", verbs.reset_sandbox),
    ControlRoute("GET", f"{_SANDBOX}/problems", verbs.problems),
    ControlRoute("DELETE", _SANDBOX, verbs.close_sandbox),
    ControlRoute("PUT", f"{_SANDBOX}/users/{{user}}", verbs.set_user, shapes.UserState),
    ControlRoute("GET", f"{_SANDBOX}/users/{{user}}", verbs.get_user, query=shapes.UserQuery),
    ControlRoute("POST", f"{_SANDBOX}/tokens", verbs.mint_token, shapes.NewToken, status=201),
    ControlRoute("GET", f"{_SANDBOX}/journal", verbs.query_journal, query=shapes.JournalQuery),
    ControlRoute("GET", f"{_SANDBOX}/journal/canonical", verbs.canonical_journal),
    ControlRoute("POST", f"{_SANDBOX}/faults", bad_days.add_fault, shapes.Rules, status=201),
    ControlRoute("POST", f"{_SANDBOX}/faults/load", bad_days.load_faults, shapes.Rules, status=201),
    ControlRoute("GET", f"{_SANDBOX}/faults", bad_days.list_faults),
    ControlRoute("GET", f"{_SANDBOX}/faults/{{rule}}", bad_days.get_fault),
    ControlRoute("DELETE", f"{_SANDBOX}/faults/{{rule}}", bad_days.remove_fault),
    ControlRoute("DELETE", f"{_SANDBOX}/faults", bad_days.clear_faults),
    ControlRoute("GET", "/presets", bad_days.list_presets),
    ControlRoute("POST", f"{_SANDBOX}/gates", bad_days.hold_gate, shapes.Rules, status=201),
    ControlRoute("GET", f"{_SANDBOX}/gates", bad_days.list_gates),
    ControlRoute("GET", f"{_SANDBOX}/gates/{{gate}}", bad_days.get_gate),
    ControlRoute("POST", f"{_SANDBOX}/gates/{{gate}}/wait", body=shapes.WaitForArrivals, waits=bad_days.wait_at_gate),
    ControlRoute("POST", f"{_SANDBOX}/gates/{{gate}}/release", bad_days.release_gate, shapes.Release),
    ControlRoute("GET", f"{_SANDBOX}/clock", bad_days.get_clock),
    ControlRoute("POST", f"{_SANDBOX}/clock/freeze", bad_days.freeze_clock, shapes.Freeze),
    ControlRoute("POST", f"{_SANDBOX}/clock/advance", bad_days.advance_clock, shapes.Advance),
    ControlRoute("POST", f"{_SANDBOX}/clock/travel", bad_days.travel_clock, shapes.Travel),
    ControlRoute("POST", f"{_SANDBOX}/clock/settle", bad_days.settle_clock),
)
"""Every route, its path below ``/_fake``; README, "The control plane"."""


def match(method: str, segments: Sequence[str], shown: str) -> tuple[ControlRoute, Mapping[str, str]]:
    """Return the route of a method and a path's segments below the prefix, with the parts that the path names.

    Raises ControlError where there is no such path, and where it takes other methods.
    """
    found = [(route, parts) for route in ROUTES if (parts := route.parts(segments)) is not None]
    if not found:
        raise ControlError("route_not_found", f'there is no {shown} (README, "The control plane", lists the paths)')
    for route, parts in found:
        if route.method == method:
            return route, parts
    allow = ", ".join(sorted({route.method for route, _ in found}))
    raise ControlError("method_not_allowed", f"{shown} is not allowed: the path takes {allow}", allow=allow)
