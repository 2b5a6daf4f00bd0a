"""Each operation's statuses, bodies and headers, to the byte; pages and cursors."""

import itertools
import json
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_credits.client.server import ServerClient
from fake_credits.contract import DEFAULT_CONTRACT, Contract, Operation
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import APP, GRANT, Api, Got, assert_refused

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
STAMP = "2026-01-02T03:04:05.678Z"
USER_ADA = b'{"applicationId":"app-id","userId":"ada","createdAt":"2026-01-02T03:04:05.678Z"}'
ODD_IDS = [
    "a b",
    "ü",
    "日本語",
    "a/b",
    "%2F",
    "a%2Fb",
    "?",
    "#",
    "a+b",
    "…",
    "x" * 256,
    "💰",
    "a.b",
    "...",
    "auth0|65",
    " ",
]


@pytest.fixture
def frozen(mode: ClientMode, contract: Contract, shared: SharedResources) -> Iterator[Api]:
    """Yield the API with its clock standing still at AT, and nobody in it."""
    with FakeCredits(mode=mode, shared=shared, contract=contract, clock=AT) as fake:
        if mode == "live":
            fake.serve()
        yield Api(fake, mode, shared)
        assert fake.problems() == []


def assert_success(got: Got, status: int, body: bytes) -> None:
    """Assert an answer to the byte, and the headers that every answer bears."""
    assert (got.status, got.body) == (status, body)
    assert got.header("content-type") == "application/json"
    assert got.header("content-length") == str(len(body))
    assert got.header("cache-control") == "no-store"
    assert got.header("x-request-id")
    assert got.header("x-fake-credits-cause") is None


# ---------------------------------------------------------------- createUser


def test_create_user_answers_201_first_and_200_after_and_changes_nothing(frozen: Api) -> None:
    """PUT a user → 201 first, 200 after; createUser on an existing user changes nothing."""
    assert_success(frozen.ask(Operation.CREATE_USER), 201, USER_ADA)
    frozen.grant(5)
    before = frozen.state()
    frozen.credits.clock.advance(days=1)
    assert_success(frozen.ask(Operation.CREATE_USER), 200, USER_ADA)
    assert frozen.state() == before


@pytest.mark.parametrize("body", [b"", b"{}", b" {} ", b"{\n}"])
def test_create_user_takes_no_body_or_an_empty_object(frozen: Api, body: bytes) -> None:
    assert_success(frozen.ask(Operation.CREATE_USER, body=body), 201, USER_ADA)


def test_create_user_refuses_a_member(api: Api) -> None:
    got = api.ask(Operation.CREATE_USER, body=b'{"balance":5}')
    assert [problem["field"] for problem in assert_refused(got, "validation_error")["details"]] == ["balance"]
    assert api.state() == {}


@pytest.mark.parametrize("user", ODD_IDS)
def test_ids_are_exact_text(api: Api, user: str) -> None:
    """Ids have 1 to 256 code points, are compared exactly, and may have a slash, encoded."""
    created = api.ask(Operation.CREATE_USER, user, app=user)
    assert (created.status, created.json()["applicationId"], created.json()["userId"]) == (201, user, user)
    assert api.grant(7, user, app=user).status == 201
    assert api.ask(Operation.GET_BALANCE, user, app=user).body == b'{"balance":7}'
    listed = api.ask(Operation.LIST_USERS, app=user).json()["users"]
    assert [each["userId"] for each in listed] == [user]


@pytest.mark.parametrize(("one", "other"), [("ada", "Ada"), ("é", "e\u0301"), ("a", "a "), ("ß", "ss"), ("%41", "A")])
def test_ids_that_look_alike_are_two(api: Api, one: str, other: str) -> None:
    api.ask(Operation.CREATE_USER, one)
    assert_refused(api.ask(Operation.GET_USER, other), "user_not_found")


# ---------------------------------------------------------------- reading


def test_get_user_answers_what_create_user_did(frozen: Api) -> None:
    frozen.ask(Operation.CREATE_USER)
    frozen.credits.clock.advance(days=1)
    assert_success(frozen.ask(Operation.GET_USER), 200, USER_ADA)


def test_get_balance_is_one_number(frozen: Api) -> None:
    frozen.ask(Operation.CREATE_USER)
    assert_success(frozen.ask(Operation.GET_BALANCE), 200, b'{"balance":0}')
    frozen.grant(100)
    frozen.grant(-10)
    assert_success(frozen.ask(Operation.GET_BALANCE), 200, b'{"balance":90}')


def test_empty_lists_are_empty_and_end(frozen: Api) -> None:
    assert_success(frozen.ask(Operation.LIST_USERS), 200, b'{"users":[]}')
    frozen.ask(Operation.CREATE_USER)
    assert_success(frozen.ask(Operation.LIST_TRANSACTIONS), 200, b'{"transactions":[]}')


def test_lists_have_the_members_of_single_answers(frozen: Api) -> None:
    frozen.ask(Operation.CREATE_USER)
    frozen.grant(100)
    frozen.credits.clock.advance(seconds=1)
    frozen.grant(-10)
    assert_success(frozen.ask(Operation.LIST_USERS), 200, b'{"users":[' + USER_ADA + b"]}")
    assert_success(
        frozen.ask(Operation.LIST_TRANSACTIONS),
        200,
        b'{"transactions":[{"delta":-10,"reason":"consume","createdAt":"2026-01-02T03:04:06.678Z"},'
        b'{"delta":100,"reason":"grant","createdAt":"2026-01-02T03:04:05.678Z"}]}',
    )


def test_reading_changes_nothing(api: Api) -> None:
    api.credits.user("ada", balance=5)
    before = api.state()
    for operation in (Operation.GET_USER, Operation.GET_BALANCE, Operation.LIST_USERS, Operation.LIST_TRANSACTIONS):
        assert api.ask(operation).status == 200
    assert api.state() == before


def test_a_body_on_a_read_is_nobodys_business(api: Api) -> None:
    """The API README gives reads no body and no rule for one; it is read, bounded, and passed over."""
    api.credits.user("ada", balance=5)
    assert api.ask(Operation.GET_BALANCE, body=b"nonsense").body == b'{"balance":5}'


# ---------------------------------------------------------------- createTransaction


@pytest.mark.parametrize(
    ("body", "delta", "reason"),
    [
        (b'{"delta":10,"reason":"grant"}', 10, "grant"),
        (b'{"delta":10.0,"reason":"grant"}', 10, "grant"),
        (b'{"delta":1e1,"reason":"refund"}', 10, "refund"),
        (b'{"delta":1E+1,"reason":"refund"}', 10, "refund"),
        (b'{"delta":100e-1,"reason":"refund"}', 10, "refund"),
        (b'{"reason":"consume","delta":-10}', -10, "consume"),
        (b' {\n"delta" : -10.00 ,\t"reason":"consume"}\r\n', -10, "consume"),
        (b'{"d\\u0065lta":10,"reason":"gr\\u0061nt"}', 10, "grant"),
        (b'{"delta":9007199254739991,"reason":"grant"}', 9007199254739991, "grant"),
        (b'{"delta":9007199254739991.0,"reason":"grant"}', 9007199254739991, "grant"),
    ],
)
def test_create_transaction_books_and_answers_exactly(frozen: Api, body: bytes, delta: int, reason: str) -> None:
    """A number that is integer-valued (10, 10.0, 1e1) → 201 with exactly delta, reason and createdAt."""
    frozen.credits.user("ada", balance=1000)
    got = frozen.ask(Operation.CREATE_TRANSACTION, body=body)
    assert_success(got, 201, b'{"delta":%d,"reason":"%s","createdAt":"%s"}' % (delta, reason.encode(), STAMP.encode()))
    assert frozen.credits.balance("ada") == 1000 + delta


def test_created_at_is_iso_8601_with_milliseconds_and_z(api: Api) -> None:
    api.ask(Operation.CREATE_USER)
    stamp = api.grant(1).json()["createdAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)


def test_created_at_is_the_sandboxs_clock(api: Api) -> None:
    api.credits.clock.freeze()
    api.credits.user("ada")
    first = api.grant(1).json()["createdAt"]
    api.credits.clock.advance(days=3, seconds=0.001)
    second = api.grant(1).json()["createdAt"]
    passed = datetime.fromisoformat(second) - datetime.fromisoformat(first)
    assert passed == timedelta(days=3, milliseconds=1)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
@pytest.mark.parametrize("suffix", ["", " "])
def test_json_may_say_its_charset(api: Api, media_type: str, suffix: str) -> None:
    api.credits.user("ada")
    method, path = api.contract.routes[Operation.CREATE_TRANSACTION].method, api.path(Operation.CREATE_TRANSACTION)
    sent: Headers = [*api.as_server, (b"content-type", (media_type + suffix).encode())]
    assert api.send(Request(method, path, sent, GRANT)).status == 201


def test_an_overdraft_is_refused_whole(api: Api) -> None:
    api.credits.user("ada", balance=5)
    before = api.state()
    assert_refused(api.grant(-6), "insufficient_credits")
    assert api.state() == before
    assert api.grant(-5).status == 201
    assert api.ask(Operation.GET_BALANCE).body == b'{"balance":0}'


def test_the_ceiling_is_refused_whole(api: Api) -> None:
    api.credits.user("ada", balance=2**53 - 2)
    before = api.state()
    assert_refused(api.grant(2), "balance_limit_exceeded")
    assert api.state() == before
    assert api.grant(1).status == 201
    assert api.ask(Operation.GET_BALANCE).body == b'{"balance":9007199254740991}'


@pytest.mark.parametrize("pair", [(10, "consume"), (-10, "grant"), (-10, "refund"), (0, "grant"), (0, "consume")])
def test_the_sign_must_fit_the_reason(api: Api, pair: tuple[int, str]) -> None:
    """Grant > 0, refund > 0, consume < 0, and never 0: else 400, naming delta."""
    api.credits.user("ada", balance=100)
    before = api.state()
    body = json.dumps({"delta": pair[0], "reason": pair[1]}).encode()
    error = assert_refused(api.ask(Operation.CREATE_TRANSACTION, body=body), "validation_error")
    assert [problem["field"] for problem in error["details"]] == ["delta"]
    assert api.state() == before


def test_an_idempotency_key_is_ignored_and_journalled(api: Api) -> None:
    api.credits.user("ada")
    for _ in range(2):
        api.ask(Operation.CREATE_TRANSACTION, body=GRANT, headers=[(b"idempotency-key", b"k-1")])
    assert api.credits.balance("ada") == 200
    assert [entry.idempotency_key for entry in api.credits.journal] == ["k-1", "k-1"]


@given(
    deltas=st.lists(st.integers(-50, 100).filter(bool), max_size=30),
)
@settings(max_examples=40)
def test_the_balance_is_the_sum_of_the_deltas_that_were_accepted(shared: SharedResources, deltas: list[int]) -> None:
    with FakeCredits(shared=shared) as fake:
        api = Api(fake, "in-process", shared)
        fake.user("ada")
        accepted = [delta for delta in deltas if api.grant(delta).status == 201]
        assert api.ask(Operation.GET_BALANCE).json() == {"balance": sum(accepted)}
        history = [item.delta for item in fake.server_client.iter_transactions(APP, "ada")]
        assert history == accepted[::-1]
        assert fake.problems() == []


# ---------------------------------------------------------------- unknown users, applications


@pytest.mark.parametrize("operation", [each for each in Operation if each not in ("createUser", "listUsers")])
def test_an_unknown_user_is_404_and_the_message_names_the_application_that_has_one(
    api: Api, operation: Operation
) -> None:
    """404 user_not_found, for every operation but createUser; the message names another application of the sandbox."""
    api.credits.user("ada", application_id="elsewhere")
    body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
    before = api.state()
    assert "'elsewhere'" in assert_refused(api.ask(operation, body=body), "user_not_found")["message"]
    assert "elsewhere" not in assert_refused(api.ask(operation, "bob", body=body), "user_not_found")["message"]
    assert api.state() == before


def test_applications_are_apart(api: Api) -> None:
    for app, delta in (("one", 1), ("two", 2)):
        api.ask(Operation.CREATE_USER, app=app)
        api.grant(delta, app=app)
    assert [api.ask(Operation.GET_BALANCE, app=app).body for app in ("one", "two")] == [
        b'{"balance":1}',
        b'{"balance":2}',
    ]
    api.ask(Operation.CREATE_USER, "bob", app="two")
    assert [user["userId"] for user in api.ask(Operation.LIST_USERS, app="one").json()["users"]] == ["ada"]
    assert len(api.ask(Operation.LIST_TRANSACTIONS, app="one").json()["transactions"]) == 1


def test_sandboxes_are_apart(api: Api, shared: SharedResources) -> None:
    """The credential names the sandbox; over a socket both are at one address."""
    api.credits.user("ada", balance=1)
    with FakeCredits(mode=api.mode, shared=shared, contract=api.contract) as other:
        if api.mode == "live":
            other.serve()
        two = Api(other, api.mode, shared)
        assert_refused(two.ask(Operation.GET_USER), "user_not_found")
        other.user("ada", balance=2)
        assert [each.ask(Operation.GET_BALANCE).json()["balance"] for each in (api, two)] == [1, 2]
        assert [each.ask(Operation.GET_BALANCE, who=each.as_user()).json()["balance"] for each in (api, two)] == [1, 2]
        assert [len(each.credits.journal) for each in (api, two)] == [2, 3]


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_the_base_url_works_with_and_without_a_trailing_slash(api: Api, slash: str) -> None:
    api.credits.user("ada", balance=3)
    base_url = api.credits.base_url + slash
    client = ServerClient(base_url, api.credits.api_key, contract=api.contract, transport=api.transport)
    assert client.get_balance(APP, "ada").balance == 3


# ---------------------------------------------------------------- headers


def test_request_ids_differ_and_are_the_journals(api: Api) -> None:
    api.credits.user("ada")
    ids = [api.ask(operation).header("x-request-id") for operation in (Operation.GET_USER, Operation.GET_BALANCE)]
    ids.append(api.ask(Operation.GET_USER, "nobody").header("x-request-id"))
    assert len(set(ids)) == 3
    assert [entry.request_id for entry in api.credits.journal] == ids


@pytest.mark.parametrize(
    ("target", "code", "cause"),
    [
        (b"/v1/applications/app-id/users/nobody", "user_not_found", "domain"),
        (b"/v1/nothing", "route_not_found", "routing"),
        (b"/v1/applications/app-id/users?cursor=x", "invalid_cursor", "validation"),
        (b"/v1/applications/app-id/users/%00", "validation_error", "validation"),
        (b"/v1/applications/app-id/users/%zz", "malformed_request", "validation"),
    ],
)
def test_a_refusal_says_its_cause(api: Api, target: bytes, code: str, cause: str) -> None:
    got = api.send(Request("GET", target, api.as_server, b""))
    assert_refused(got, code)
    assert got.header("x-fake-credits-cause") == cause


def test_a_refused_credential_says_why(api: Api) -> None:
    got = api.ask(Operation.GET_BALANCE, who=[(b"x-api-key", b"nonsense")])
    assert_refused(got, "invalid_api_key")
    assert got.header("x-fake-credits-cause") == "auth:unknown_key"


def test_too_much_says_limit(api: Api) -> None:
    got = api.ask(Operation.CREATE_TRANSACTION, body=b" " * 65537)
    assert_refused(got, "payload_too_large")
    assert got.header("x-fake-credits-cause") == "limit"


def test_a_live_answer_has_a_date(live: Api) -> None:
    live.credits.user("ada")
    assert live.ask(Operation.GET_USER).header("date")


@pytest.mark.parametrize("path", ["/_fake/livez", "/_fake/readyz"])
def test_health_is_open_and_no_exchange(api: Api, path: str) -> None:
    got = api.send(Request("GET", path.encode(), [], b""))
    assert_success(got, 200, b'{"status":"ok"}')
    assert len(api.credits.journal) == 0


@pytest.mark.parametrize("path", [b"/_fake/nothing", b"/_fake/livez/", b"/.well-known/nothing", b"/_fake/", b"/_fake"])
def test_an_unknown_path_of_the_fakes_own_is_404(api: Api, path: bytes) -> None:
    assert_refused(api.send(Request("GET", path, api.as_server, b"")), "route_not_found")


def test_a_wrong_method_on_the_fakes_own_path_is_405(api: Api) -> None:
    got = api.send(Request("POST", b"/_fake/livez", [], b""))
    assert_refused(got, "method_not_allowed")
    assert "GET" in (got.header("allow") or "")


# ---------------------------------------------------------------- pages


def fill(api: Api, operation: Operation, count: int) -> list[str]:
    """Put so many items into a list, and return their marks in the order in which they are to be listed."""
    if operation is Operation.LIST_USERS:
        names = [f"u{number}" for number in range(count)]
        for name in names:
            api.credits.user(name)
        return names
    api.credits.user("ada")
    for number in range(1, count + 1):
        api.credits.user("ada", balance=number * (number + 1) // 2)
    return [str(number) for number in range(count, 0, -1)]


def marks(got: Got) -> list[str]:
    """Return what tells the items of a page apart."""
    assert got.status == 200, got
    body = got.json()
    return [str(item.get("userId", item.get("delta"))) for item in body.get("users", body.get("transactions"))]


LISTS = [Operation.LIST_USERS, Operation.LIST_TRANSACTIONS]


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("count", [1, 19, 20, 21, 40, 41])
def test_pages_have_20_items_in_order_and_the_last_has_no_cursor(api: Api, operation: Operation, count: int) -> None:
    """20 a page, newest first for transactions, creation order for users; nextCursor is absent at the end."""
    expected = fill(api, operation, count)
    pages: list[list[str]] = []
    query = b""
    while True:
        got = api.ask(operation, query=query)
        pages.append(marks(got))
        assert list(got.json()) == [*list(got.json())[:1], *(["nextCursor"] if "nextCursor" in got.json() else [])]
        if "nextCursor" not in got.json():
            break
        query = b"cursor=" + got.json()["nextCursor"].encode()
    assert [len(page) for page in pages] == [20] * ((count - 1) // 20) + [(count - 1) % 20 + 1]
    assert [mark for page in pages for mark in page] == expected


def test_there_is_no_limit_parameter_by_default(api: Api) -> None:
    fill(api, Operation.LIST_USERS, 25)
    assert len(marks(api.ask(Operation.LIST_USERS, query=b"limit=1&page=2&size=0"))) == 20


def test_a_cursor_is_url_safe_and_opaque(api: Api) -> None:
    fill(api, Operation.LIST_USERS, 21)
    cursor = api.ask(Operation.LIST_USERS).json()["nextCursor"]
    assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")


def walk(api: Api, operation: Operation, writes: list[int]) -> list[str]:
    """Return the marks of all pages, while others write so many items after each."""
    seen: list[str] = []
    query = b""
    for count in itertools.chain(writes, itertools.repeat(0)):
        got = api.ask(operation, query=query)
        seen += marks(got)
        for number in range(count):
            api.credits.user(f"late-{len(seen)}-{number}")
            api.grant(1)
        if "nextCursor" not in got.json():
            break
        query = b"cursor=" + got.json()["nextCursor"].encode()
    return seen


WRITES = st.lists(st.integers(0, 30), max_size=6)


@settings(max_examples=25)
@given(count=st.integers(0, 70), writes=WRITES)
def test_pages_are_the_history_once_each_while_others_write(
    shared: SharedResources, count: int, writes: list[int]
) -> None:
    """No skip or repeat while others write; what is written during the walk is newer than where it stands."""
    with FakeCredits(shared=shared) as fake:
        api = Api(fake, "in-process", shared)
        history = fill(api, Operation.LIST_TRANSACTIONS, count)
        assert walk(api, Operation.LIST_TRANSACTIONS, writes) == history


@settings(max_examples=25)
@given(count=st.integers(0, 70), writes=WRITES)
def test_pages_are_the_users_once_each_while_others_write(
    shared: SharedResources, count: int, writes: list[int]
) -> None:
    """No skip or repeat while others write; who comes during the walk is met at its end, or after it."""
    with FakeCredits(shared=shared, users={"ada": 0}) as fake:
        api = Api(fake, "in-process", shared)
        fill(api, Operation.LIST_USERS, count)
        seen = walk(api, Operation.LIST_USERS, writes)
        everybody = [user.user_id for user in fake.server_client.iter_users(APP)]
        assert len(seen) > count
        assert seen == everybody[: len(seen)]


# ---------------------------------------------------------------- cursors


def first_cursor(api: Api, operation: Operation) -> str:
    cursor: str = api.ask(operation).json()["nextCursor"]
    return cursor


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize(
    "query",
    [
        "cursor=",
        "cursor",
        "cursor=abc",
        "cursor=0",
        "cursor={c}x",
        "cursor={c}=",
        "cursor={c}%20",
        "cursor=%20{c}",
        "cursor={c}%00",
        "cursor={short}",
        "cursor={c}&cursor={c}",
        "cursor={c}&cursor=",
        "cursor=&cursor={c}",
        "cursor=%FF",
        "cursor=%zz",
        "cursor=💰",
        "cursor={swapped}",
        "cursor={c}.{c}",
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(api: Api, operation: Operation, query: str) -> None:
    """400 invalid_cursor: tampered, empty, repeated."""
    fill(api, operation, 21)
    cursor = first_cursor(api, operation)
    text = query.format(c=cursor, short=cursor[:-1], swapped=cursor.swapcase())
    assert_refused(api.ask(operation, query=text.replace("💰", "%F0%9F%92%B0").encode()), "invalid_cursor")


def test_a_cursor_changed_in_any_one_place_is_refused(live: Api) -> None:
    fill(live, Operation.LIST_USERS, 21)
    cursor = first_cursor(live, Operation.LIST_USERS)
    for at, char in enumerate(cursor):
        changed = cursor[:at] + ("A" if char != "A" else "B") + cursor[at + 1 :]
        assert_refused(live.ask(Operation.LIST_USERS, query=b"cursor=" + changed.encode()), "invalid_cursor")


def test_a_cursor_is_bound_to_its_operation_application_and_user(api: Api) -> None:
    fill(api, Operation.LIST_USERS, 21)
    fill(api, Operation.LIST_TRANSACTIONS, 21)
    api.credits.user("bob")
    api.credits.user("ada", application_id="other")
    users, history = (first_cursor(api, operation).encode() for operation in LISTS)
    for operation, user, app, cursor in (
        (Operation.LIST_USERS, "ada", APP, history),
        (Operation.LIST_TRANSACTIONS, "ada", APP, users),
        (Operation.LIST_USERS, "ada", "other", users),
        (Operation.LIST_TRANSACTIONS, "ada", "other", history),
        (Operation.LIST_TRANSACTIONS, "bob", APP, history),
    ):
        assert_refused(api.ask(operation, user, app=app, query=b"cursor=" + cursor), "invalid_cursor")
    assert api.ask(Operation.LIST_TRANSACTIONS, who=api.as_user(), query=b"cursor=" + history).status == 200


def test_a_cursor_of_another_sandbox_is_refused(api: Api, shared: SharedResources) -> None:
    fill(api, Operation.LIST_USERS, 21)
    with FakeCredits(shared=shared) as other:
        second = Api(other, "in-process", shared)
        fill(second, Operation.LIST_USERS, 21)
        cursor = first_cursor(second, Operation.LIST_USERS)
    assert_refused(api.ask(Operation.LIST_USERS, query=b"cursor=" + cursor.encode()), "invalid_cursor")


@pytest.mark.parametrize("operation", LISTS)
def test_a_cursor_from_before_a_reset_is_no_bug(api: Api, operation: Operation) -> None:
    """A reset empties the lists under a cursor: its position may not be there any more."""
    fill(api, operation, 41)
    cursor = first_cursor(api, operation)
    api.credits.reset()
    api.credits.user("ada", balance=1)
    assert_refused(api.ask(operation, query=b"cursor=" + cursor.encode()), "invalid_cursor")


def test_a_cursor_can_be_used_again(api: Api) -> None:
    fill(api, Operation.LIST_TRANSACTIONS, 21)
    query = b"cursor=" + first_cursor(api, Operation.LIST_TRANSACTIONS).encode()
    once = marks(api.ask(Operation.LIST_TRANSACTIONS, query=query))
    api.grant(5)
    assert marks(api.ask(Operation.LIST_TRANSACTIONS, query=query)) == once == ["1"]


@pytest.mark.parametrize("query", [b"%zz", b"cursor2=x", b"&&&", b"=", b"%", b"a=%", b"Cursor=x"])
def test_parameters_that_the_contract_does_not_know_are_passed_over(api: Api, query: bytes) -> None:
    api.credits.user("ada")
    assert marks(api.ask(Operation.LIST_USERS, query=query)) == ["ada"]


def test_the_default_contract_pages_by_20() -> None:
    assert (DEFAULT_CONTRACT.page_size, Contract().page_size) == (20, 20)
