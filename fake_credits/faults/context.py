"""What faults work with: the call they are matched with, the base class of effects, and the context they act on."""

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from inspect import iscoroutinefunction, signature
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from fake_credits.contract import Operation
from fake_credits.errors import ApiError
from fake_credits.faults.checks import FaultError, short_repr
from fake_credits.faults.deliveries import Delivery

__all__ = [
    "ALL_OPERATIONS",
    "LIST_OPERATIONS",
    "READ_OPERATIONS",
    "WRITE_OPERATIONS",
    "CursorFault",
    "Effect",
    "FaultContext",
    "IncomingCall",
    "Phase",
    "PredicateError",
    "RequestHeaders",
    "check_where",
]

CursorFault = Literal["repeat", "cycle", "expired", "empty_page"]


class FaultContext(Protocol):
    """Be an exchange as an effect sees it.

    What gives an answer before the decision takes the decision's place; after it, only the answer is another.
    """

    def random(self) -> float:
        """Return the next number from 0 up to 1 that is keyed by seed, rule and whose call this is."""
        ...

    async def sleep(self, ms: float) -> None:
        """Let milliseconds pass."""
        ...

    async def hold_at_gate(self, gate_name: str) -> None:
        """Wait until the gate of this name lets the exchange go; raise GatewayTimeout at the gate's limit."""
        ...

    def respond_with_error(self, error: ApiError, *, status: int | None = None, retry_after: str = "") -> None:
        """Answer with a refusal in the contract's error body."""
        ...

    def respond(self, status: int, body: bytes, media_type: str) -> None:
        """Answer with bytes."""
        ...

    def edit_body(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change the members of a success's body, by the contract's names."""
        ...

    def field_name(self, default_name: str) -> str:
        """Return how the contract calls a member of a body."""
        ...

    def body_size(self) -> int:
        """Return the size of the answer's body in bytes."""
        ...

    def format_retry_after(self, seconds: float, form: str) -> str:
        """Return the value of Retry-After in a form, or in the contract's where the form is empty."""
        ...

    def set_delivery(self, delivery: Delivery) -> None:
        """Say how the answer leaves; before the decision, instead of one."""
        ...

    def read_stale(self, *, by_ms: int, by_writes: int) -> None:
        """Read balance and history without the user's newest writes."""
        ...

    def duplicate_write(self) -> None:
        """Apply the write twice."""
        ...

    def defer_write(self, after_ms: int) -> None:
        """Check the write now; answer a refusal, else let the client hang and apply the write later."""
        ...

    def inject_cursor_fault(self, cursor_fault: CursorFault) -> None:
        """Play a trick with the list's cursor."""
        ...

    def skew_token_clock(self, skew_s: int) -> None:
        """Judge the token's life by a clock that is so many seconds fast."""
        ...


class RequestHeaders(Mapping[str, str]):
    """Be a request's headers as text (Latin-1): names are told in lower case, and asked for in any."""

    __slots__ = ("_raw_headers",)

    def __init__(self, raw_headers: Mapping[bytes, bytes]) -> None:
        self._raw_headers = raw_headers

    def __repr__(self) -> str:
        return f"<RequestHeaders: {', '.join(self) or 'none'}>"

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the name of a header must be a str, not {type(name).__name__}")
        return self._raw_headers[name.lower().encode("utf-8", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw_headers)

    def __len__(self) -> int:
        return len(self._raw_headers)


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
    def headers(self) -> RequestHeaders:
        """Return the headers as text: ``call.headers.get("X-Tenant") == "acme"``, in any case of the name."""
        return RequestHeaders(self.fields)


class PredicateError(Exception):
    """Tell that the function of a rule raised: ``problem`` in a line, and ``told`` with the function's traceback."""

    def __init__(self, rule_name: str, error: Exception) -> None:
        self.rule_name = rule_name
        self.problem = f"the function `where` of the rule {rule_name!r} raised {type(error).__name__}: {error}"
        user_traceback = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of the fake
        lines = traceback.format_exception(type(error), error, user_traceback or error.__traceback__)
        self.problem_with_traceback = f"{self.problem}\n{''.join(lines).rstrip()}"
        super().__init__(self.problem)


def check_where(where: object) -> None:
    """Raise FaultError for what is no function that can be called with a call alone."""
    if where is None:
        return
    if not callable(where) or iscoroutinefunction(where):
        raise FaultError(f"where is {short_repr(where)}, a {type(where).__name__}: it must be a function of a call")
    try:
        bind_arguments: Callable[[object], object] = signature(where).bind
    except (TypeError, ValueError):
        return  # one of C that does not tell
    try:
        bind_arguments(None)
    except TypeError as error:
        raise FaultError(f"where is {short_repr(where)}: it is called with one argument, a call ({error})") from None


Phase = Literal["before", "after", "read", "write", "list"]
"""When an effect works: before the decision or after it; while the operation reads, writes or lists."""

ALL_OPERATIONS = frozenset(Operation)
WRITE_OPERATIONS = frozenset({Operation.CREATE_USER, Operation.CREATE_TRANSACTION})
READ_OPERATIONS = ALL_OPERATIONS - WRITE_OPERATIONS
LIST_OPERATIONS = frozenset({Operation.LIST_USERS, Operation.LIST_TRANSACTIONS})


class Effect:
    """Be what a rule does to a call.

    ``effect_name`` is its name in files. ``phases`` are those it has, the first unless one is given. ``stacks``: the
    rules behind are tried too. ``times``: how often a rule fires unless it says so, None for ever. ``counts_passes``:
    it is told of the calls that it let pass, and only then asked for `effect_for`. ``reveals``: the bug of a client
    that it shows. ``needs_connection``: it breaks or holds the connection, which ASGI can't do.
    """

    effect_name: ClassVar[str] = ""
    phases: ClassVar[tuple[Phase, ...]] = ("before", "after")
    stacks: ClassVar[bool] = False
    times: ClassVar[int | None] = None
    counts_passes: ClassVar[bool] = False
    reveals: ClassVar[str] = ""
    needs_connection: ClassVar[bool] = False

    @property
    def operations(self) -> frozenset[Operation]:
        """Return the operations that it can touch at all."""
        return ALL_OPERATIONS

    @property
    def only_client(self) -> Literal["server", "user", ""]:
        """Return the kind of client that alone it can touch, empty for both."""
        return ""

    def effect_for(self, pass_times_ms: deque[int], now_ms: int) -> "Effect | None":
        """Return what to apply to a call for which the rule's time has come, None to let it pass.

        ``pass_times_ms`` is the rule's own, or the user's where the rule counts each user's calls apart.
        """
        return self

    def record_pass(self, pass_times_ms: deque[int], now_ms: int) -> None:
        """Note a call that matched and was let pass."""

    async def apply(self, context: FaultContext) -> None:
        """Do it to one exchange."""
        raise NotImplementedError
