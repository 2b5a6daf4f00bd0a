"""Each operation's statuses, bodies and headers, byte for byte; pages and cursors."""

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
from tests.api.conftest import APP, GRANT, Api, ApiResponse, assert_error

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
NOW_TEXT = "2026-01-02T03:04:05.678Z"
USER_ADA_BODY = b'{"applicationId":"app-id","userId":"ada","createdAt":"2026-01-02T03:04:05.678Z"}'
UNUSUAL_IDS = [
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
def frozen_api(mode: ClientMode, contract: Contract, shared: SharedResources) -> Iterator[Api]:
    """Yield a client for an empty sandbox whose clock is frozen at NOW."""
    with FakeCredits(mode=mode, shared=shared, contract=contract, clock=NOW) as fake:
        if mode == "live":
            fake.serve()
        yield Api(fake, mode, shared)
        assert fake.problems() == []


def assert_success(response: ApiResponse, status: int, body: bytes) -> None:
    """Assert the exact body, and the headers that every response has."""
    assert (response.status, response.body) == (status, body)
    assert response.header("content-type") == "application/json"
    assert response.header("content-length") == str(len(body))
    assert response.header("cache-control") == "no-store"
    assert response.header("x-request-id")
    assert response.header("x-fake-credits-cause") is None


# ---------------------------------------------------------------- createUser


def test_create_user_returns_201_then_200_without_changes(frozen_api: Api) -> None:
    assert_success(frozen_api.call(Operation.CREATE_USER), 201, USER_ADA_BODY)
    frozen_api.grant(5)
    before = frozen_api.state()
    frozen_api.credits.clock.advance(days=1)
    assert_success(frozen_api.call(Operation.CREATE_USER), 200, USER_ADA_BODY)
    assert frozen_api.state() == before


@pytest.mark.parametrize("body", [b"", b"{}", b" {} ", b"{\n}"])
def test_create_user_accepts_no_body_or_empty_object(frozen_api: Api, body: bytes) -> None:
    assert_success(frozen_api.call(Operation.CREATE_USER, body=body), 201, USER_ADA_BODY)


def test_create_user_rejects_unknown_member(api: Api) -> None:
    response = api.call(Operation.CREATE_USER, body=b'{"balance":5}')
    assert [problem["field"] for problem in assert_error(response, "validation_error")["details"]] == ["balance"]
    assert api.state() == {}


@pytest.mark.parametrize("user", UNUSUAL_IDS)
def test_ids_are_preserved_exactly(api: Api, user: str) -> None:
    """Ids have 1 to 256 code points, are compared exactly, and may contain an encoded slash."""
    created = api.call(Operation.CREATE_USER, user, app=user)
    assert (created.status, created.json()["applicationId"], created.json()["userId"]) == (201, user, user)
    assert api.grant(7, user, app=user).status == 201
    assert api.call(Operation.GET_BALANCE, user, app=user).body == b'{"balance":7}'
    listed = api.call(Operation.LIST_USERS, app=user).json()["users"]
    assert [item["userId"] for item in listed] == [user]


@pytest.mark.parametrize(
    ("first_id", "second_id"), [("ada", "Ada"), ("é", "e\u0301"), ("a", "a "), ("ß", "ss"), ("%41", "A")]
)
def test_similar_ids_are_distinct(api: Api, first_id: str, second_id: str) -> None:
    api.call(Operation.CREATE_USER, first_id)
    assert_error(api.call(Operation.GET_USER, second_id), "user_not_found")


# ---------------------------------------------------------------- reading


def test_get_user_returns_the_created_user(frozen_api: Api) -> None:
    frozen_api.call(Operation.CREATE_USER)
    frozen_api.credits.clock.advance(days=1)
    assert_success(frozen_api.call(Operation.GET_USER), 200, USER_ADA_BODY)


def test_get_balance_returns_one_number(frozen_api: Api) -> None:
    frozen_api.call(Operation.CREATE_USER)
    assert_success(frozen_api.call(Operation.GET_BALANCE), 200, b'{"balance":0}')
    frozen_api.grant(100)
    frozen_api.grant(-10)
    assert_success(frozen_api.call(Operation.GET_BALANCE), 200, b'{"balance":90}')


def test_empty_list_has_no_items_and_no_cursor(frozen_api: Api) -> None:
    assert_success(frozen_api.call(Operation.LIST_USERS), 200, b'{"users":[]}')
    frozen_api.call(Operation.CREATE_USER)
    assert_success(frozen_api.call(Operation.LIST_TRANSACTIONS), 200, b'{"transactions":[]}')


def test_list_items_have_same_members_as_single_responses(frozen_api: Api) -> None:
    frozen_api.call(Operation.CREATE_USER)
    frozen_api.grant(100)
    frozen_api.credits.clock.advance(seconds=1)
    frozen_api.grant(-10)
    assert_success(frozen_api.call(Operation.LIST_USERS), 200, b'{"users":[' + USER_ADA_BODY + b"]}")
    assert_success(
        frozen_api.call(Operation.LIST_TRANSACTIONS),
        200,
        b'{"transactions":[{"delta":-10,"reason":"consume","createdAt":"2026-01-02T03:04:06.678Z"},'
        b'{"delta":100,"reason":"grant","createdAt":"2026-01-02T03:04:05.678Z"}]}',
    )


def test_reads_change_nothing(api: Api) -> None:
    api.credits.user("ada", balance=5)
    before = api.state()
    for operation in (Operation.GET_USER, Operation.GET_BALANCE, Operation.LIST_USERS, Operation.LIST_TRANSACTIONS):
        assert api.call(operation).status == 200
    assert api.state() == before


def test_body_of_a_read_is_ignored(api: Api) -> None:
    """The API README does not define a body for reads; such a body is read up to the limit and ignored."""
    api.credits.user("ada", balance=5)
    assert api.call(Operation.GET_BALANCE, body=b"nonsense").body == b'{"balance":5}'


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
def test_create_transaction_appends_entry_and_returns_it(frozen_api: Api, body: bytes, delta: int, reason: str) -> None:
    """Any integer-valued number (10, 10.0, 1e1) is accepted; the response has only delta, reason and createdAt."""
    frozen_api.credits.user("ada", balance=1000)
    response = frozen_api.call(Operation.CREATE_TRANSACTION, body=body)
    assert_success(
        response, 201, b'{"delta":%d,"reason":"%s","createdAt":"%s"}' % (delta, reason.encode(), NOW_TEXT.encode())
    )
    assert frozen_api.credits.balance("ada") == 1000 + delta


def test_created_at_is_iso_8601_utc_with_milliseconds(api: Api) -> None:
    api.call(Operation.CREATE_USER)
    created_at = api.grant(1).json()["createdAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", created_at)


def test_created_at_follows_sandbox_clock(api: Api) -> None:
    api.credits.clock.freeze()
    api.credits.user("ada")
    first = api.grant(1).json()["createdAt"]
    api.credits.clock.advance(days=3, seconds=0.001)
    second = api.grant(1).json()["createdAt"]
    passed = datetime.fromisoformat(second) - datetime.fromisoformat(first)
    assert passed == timedelta(days=3, milliseconds=1)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
@pytest.mark.parametrize("suffix", ["", " "])
def test_json_content_type_may_have_utf8_charset(api: Api, media_type: str, suffix: str) -> None:
    api.credits.user("ada")
    method, path = api.contract.routes[Operation.CREATE_TRANSACTION].method, api.path(Operation.CREATE_TRANSACTION)
    sent: Headers = [*api.as_server, (b"content-type", (media_type + suffix).encode())]
    assert api.send(Request(method, path, sent, GRANT)).status == 201


def test_overdraft_is_rejected_and_changes_nothing(api: Api) -> None:
    api.credits.user("ada", balance=5)
    before = api.state()
    assert_error(api.grant(-6), "insufficient_credits")
    assert api.state() == before
    assert api.grant(-5).status == 201
    assert api.call(Operation.GET_BALANCE).body == b'{"balance":0}'


def test_grant_over_ceiling_is_rejected_and_changes_nothing(api: Api) -> None:
    api.credits.user("ada", balance=2**53 - 2)
    before = api.state()
    assert_error(api.grant(2), "balance_limit_exceeded")
    assert api.state() == before
    assert api.grant(1).status == 201
    assert api.call(Operation.GET_BALANCE).body == b'{"balance":9007199254740991}'


@pytest.mark.parametrize("pair", [(10, "consume"), (-10, "grant"), (-10, "refund"), (0, "grant"), (0, "consume")])
def test_delta_with_wrong_sign_is_rejected(api: Api, pair: tuple[int, str]) -> None:
    """The delta must be positive for grant and refund, and negative for consume; otherwise, a 400 names the field."""
    api.credits.user("ada", balance=100)
    before = api.state()
    body = json.dumps({"delta": pair[0], "reason": pair[1]}).encode()
    error = assert_error(api.call(Operation.CREATE_TRANSACTION, body=body), "validation_error")
    assert [problem["field"] for problem in error["details"]] == ["delta"]
    assert api.state() == before


def test_idempotency_key_is_journaled_but_ignored(api: Api) -> None:
    api.credits.user("ada")
    for _ in range(2):
        api.call(Operation.CREATE_TRANSACTION, body=GRANT, headers=[(b"idempotency-key", b"k-1")])
    assert api.credits.balance("ada") == 200
    assert [entry.idempotency_key for entry in api.credits.journal] == ["k-1", "k-1"]


@given(
    deltas=st.lists(st.integers(-50, 100).filter(bool), max_size=30),
)
@settings(max_examples=40)
def test_balance_is_sum_of_accepted_deltas(shared: SharedResources, deltas: list[int]) -> None:
    with FakeCredits(shared=shared) as fake:
        api = Api(fake, "in-process", shared)
        fake.user("ada")
        accepted = [delta for delta in deltas if api.grant(delta).status == 201]
        assert api.call(Operation.GET_BALANCE).json() == {"balance": sum(accepted)}
        history = [item.delta for item in fake.server_client.iter_transactions(APP, "ada")]
        assert history == accepted[::-1]
        assert fake.problems() == []


# ---------------------------------------------------------------- unknown users, applications


@pytest.mark.parametrize("operation", [item for item in Operation if item not in ("createUser", "listUsers")])
def test_unknown_user_returns_404_naming_application_that_has_it(api: Api, operation: Operation) -> None:
    """The message names another application only if the user exists there."""
    api.credits.user("ada", application_id="elsewhere")
    body = GRANT if operation is Operation.CREATE_TRANSACTION else b""
    before = api.state()
    assert "'elsewhere'" in assert_error(api.call(operation, body=body), "user_not_found")["message"]
    assert "elsewhere" not in assert_error(api.call(operation, "bob", body=body), "user_not_found")["message"]
    assert api.state() == before


def test_applications_are_isolated(api: Api) -> None:
    for app, delta in (("one", 1), ("two", 2)):
        api.call(Operation.CREATE_USER, app=app)
        api.grant(delta, app=app)
    assert [api.call(Operation.GET_BALANCE, app=app).body for app in ("one", "two")] == [
        b'{"balance":1}',
        b'{"balance":2}',
    ]
    api.call(Operation.CREATE_USER, "bob", app="two")
    assert [user["userId"] for user in api.call(Operation.LIST_USERS, app="one").json()["users"]] == ["ada"]
    assert len(api.call(Operation.LIST_TRANSACTIONS, app="one").json()["transactions"]) == 1


def test_sandboxes_are_isolated(api: Api, shared: SharedResources) -> None:
    """The credential selects the sandbox; on the live server both share one address."""
    api.credits.user("ada", balance=1)
    with FakeCredits(mode=api.mode, shared=shared, contract=api.contract) as other:
        if api.mode == "live":
            other.serve()
        other_api = Api(other, api.mode, shared)
        assert_error(other_api.call(Operation.GET_USER), "user_not_found")
        other.user("ada", balance=2)
        assert [item.call(Operation.GET_BALANCE).json()["balance"] for item in (api, other_api)] == [1, 2]
        assert [
            item.call(Operation.GET_BALANCE, credentials=item.as_user()).json()["balance"] for item in (api, other_api)
        ] == [1, 2]
        assert [len(item.credits.journal) for item in (api, other_api)] == [2, 3]


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_base_url_works_with_and_without_trailing_slash(api: Api, slash: str) -> None:
    api.credits.user("ada", balance=3)
    base_url = api.credits.base_url + slash
    client = ServerClient(base_url, api.credits.api_key, contract=api.contract, transport=api.transport)
    assert client.get_balance(APP, "ada").balance == 3


# ---------------------------------------------------------------- headers


def test_request_ids_are_unique_and_match_journal(api: Api) -> None:
    api.credits.user("ada")
    ids = [api.call(operation).header("x-request-id") for operation in (Operation.GET_USER, Operation.GET_BALANCE)]
    ids.append(api.call(Operation.GET_USER, "nobody").header("x-request-id"))
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
def test_error_response_has_cause_header(api: Api, target: bytes, code: str, cause: str) -> None:
    response = api.send(Request("GET", target, api.as_server, b""))
    assert_error(response, code)
    assert response.header("x-fake-credits-cause") == cause


def test_rejected_credential_has_auth_cause(api: Api) -> None:
    response = api.call(Operation.GET_BALANCE, credentials=[(b"x-api-key", b"nonsense")])
    assert_error(response, "invalid_api_key")
    assert response.header("x-fake-credits-cause") == "auth:unknown_key"


def test_oversized_body_has_limit_cause(api: Api) -> None:
    response = api.call(Operation.CREATE_TRANSACTION, body=b" " * 65537)
    assert_error(response, "payload_too_large")
    assert response.header("x-fake-credits-cause") == "limit"


def test_live_response_has_date_header(live_api: Api) -> None:
    live_api.credits.user("ada")
    assert live_api.call(Operation.GET_USER).header("date")


@pytest.mark.parametrize("path", ["/_fake/livez", "/_fake/readyz"])
def test_health_endpoints_need_no_credentials_and_are_not_journaled(api: Api, path: str) -> None:
    response = api.send(Request("GET", path.encode(), [], b""))
    assert_success(response, 200, b'{"status":"ok"}')
    assert len(api.credits.journal) == 0


@pytest.mark.parametrize("path", [b"/_fake/nothing", b"/_fake/livez/", b"/.well-known/nothing", b"/_fake/", b"/_fake"])
def test_unknown_fake_path_returns_404(api: Api, path: bytes) -> None:
    assert_error(api.send(Request("GET", path, api.as_server, b"")), "route_not_found")


def test_wrong_method_on_fake_path_returns_405(api: Api) -> None:
    response = api.send(Request("POST", b"/_fake/livez", [], b""))
    assert_error(response, "method_not_allowed")
    assert "GET" in (response.header("allow") or "")


# ---------------------------------------------------------------- pages


def create_items(api: Api, operation: Operation, count: int) -> list[str]:
    """Create `count` items and return their ids in the order in which they should be listed."""
    if operation is Operation.LIST_USERS:
        names = [f"u{number}" for number in range(count)]
        for name in names:
            api.credits.user(name)
        return names
    api.credits.user("ada")
    for number in range(1, count + 1):
        api.credits.user("ada", balance=number * (number + 1) // 2)
    return [str(number) for number in range(count, 0, -1)]


def item_ids(response: ApiResponse) -> list[str]:
    """Return the user id or the delta of each item of a page."""
    assert response.status == 200, response
    body = response.json()
    return [str(item.get("userId", item.get("delta"))) for item in body.get("users", body.get("transactions"))]


LISTS = [Operation.LIST_USERS, Operation.LIST_TRANSACTIONS]


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("count", [1, 19, 20, 21, 40, 41])
def test_pages_have_20_items_in_order_and_last_has_no_cursor(api: Api, operation: Operation, count: int) -> None:
    """Transactions are listed newest first, users in creation order; only the last page has no nextCursor."""
    expected = create_items(api, operation, count)
    pages: list[list[str]] = []
    query = b""
    while True:
        response = api.call(operation, query=query)
        pages.append(item_ids(response))
        assert list(response.json()) == [
            *list(response.json())[:1],
            *(["nextCursor"] if "nextCursor" in response.json() else []),
        ]
        if "nextCursor" not in response.json():
            break
        query = b"cursor=" + response.json()["nextCursor"].encode()
    assert [len(page) for page in pages] == [20] * ((count - 1) // 20) + [(count - 1) % 20 + 1]
    assert [item_id for page in pages for item_id in page] == expected


def test_limit_parameter_is_ignored_by_default(api: Api) -> None:
    create_items(api, Operation.LIST_USERS, 25)
    assert len(item_ids(api.call(Operation.LIST_USERS, query=b"limit=1&page=2&size=0"))) == 20


def test_cursor_is_url_safe(api: Api) -> None:
    create_items(api, Operation.LIST_USERS, 21)
    cursor = api.call(Operation.LIST_USERS).json()["nextCursor"]
    assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")


def collect_pages(api: Api, operation: Operation, writes: list[int]) -> list[str]:
    """Return the ids from all pages, making `writes[n]` writes after reading page n."""
    collected: list[str] = []
    query = b""
    for count in itertools.chain(writes, itertools.repeat(0)):
        response = api.call(operation, query=query)
        collected += item_ids(response)
        for number in range(count):
            api.credits.user(f"late-{len(collected)}-{number}")
            api.grant(1)
        if "nextCursor" not in response.json():
            break
        query = b"cursor=" + response.json()["nextCursor"].encode()
    return collected


WRITES = st.lists(st.integers(0, 30), max_size=6)


@settings(max_examples=25)
@given(count=st.integers(0, 70), writes=WRITES)
def test_transaction_pages_are_consistent_under_concurrent_writes(
    shared: SharedResources, count: int, writes: list[int]
) -> None:
    """No entry is skipped or repeated; entries written in the meantime are newer than the current page."""
    with FakeCredits(shared=shared) as fake:
        api = Api(fake, "in-process", shared)
        history = create_items(api, Operation.LIST_TRANSACTIONS, count)
        assert collect_pages(api, Operation.LIST_TRANSACTIONS, writes) == history


@settings(max_examples=25)
@given(count=st.integers(0, 70), writes=WRITES)
def test_user_pages_are_consistent_under_concurrent_writes(
    shared: SharedResources, count: int, writes: list[int]
) -> None:
    """No user is skipped or repeated; users created in the meantime are at the end."""
    with FakeCredits(shared=shared, users={"ada": 0}) as fake:
        api = Api(fake, "in-process", shared)
        create_items(api, Operation.LIST_USERS, count)
        collected = collect_pages(api, Operation.LIST_USERS, writes)
        all_users = [user.user_id for user in fake.server_client.iter_users(APP)]
        assert len(collected) > count
        assert collected == all_users[: len(collected)]


# ---------------------------------------------------------------- cursors


def first_cursor(api: Api, operation: Operation) -> str:
    cursor: str = api.call(operation).json()["nextCursor"]
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
def test_invalid_cursor_is_rejected(api: Api, operation: Operation, query: str) -> None:
    """A tampered, empty or repeated cursor gives 400 invalid_cursor."""
    create_items(api, operation, 21)
    cursor = first_cursor(api, operation)
    text = query.format(c=cursor, short=cursor[:-1], swapped=cursor.swapcase())
    assert_error(api.call(operation, query=text.replace("💰", "%F0%9F%92%B0").encode()), "invalid_cursor")


def test_cursor_with_any_changed_character_is_rejected(live_api: Api) -> None:
    create_items(live_api, Operation.LIST_USERS, 21)
    cursor = first_cursor(live_api, Operation.LIST_USERS)
    for index, char in enumerate(cursor):
        tampered = cursor[:index] + ("A" if char != "A" else "B") + cursor[index + 1 :]
        assert_error(live_api.call(Operation.LIST_USERS, query=b"cursor=" + tampered.encode()), "invalid_cursor")


def test_cursor_is_bound_to_operation_application_and_user(api: Api) -> None:
    create_items(api, Operation.LIST_USERS, 21)
    create_items(api, Operation.LIST_TRANSACTIONS, 21)
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
        assert_error(api.call(operation, user, app=app, query=b"cursor=" + cursor), "invalid_cursor")
    assert api.call(Operation.LIST_TRANSACTIONS, credentials=api.as_user(), query=b"cursor=" + history).status == 200


def test_cursor_of_another_sandbox_is_rejected(api: Api, shared: SharedResources) -> None:
    create_items(api, Operation.LIST_USERS, 21)
    with FakeCredits(shared=shared) as other:
        second = Api(other, "in-process", shared)
        create_items(second, Operation.LIST_USERS, 21)
        cursor = first_cursor(second, Operation.LIST_USERS)
    assert_error(api.call(Operation.LIST_USERS, query=b"cursor=" + cursor.encode()), "invalid_cursor")


@pytest.mark.parametrize("operation", LISTS)
def test_cursor_from_before_reset_is_rejected(api: Api, operation: Operation) -> None:
    """A reset empties the lists, so the position of a cursor may no longer exist."""
    create_items(api, operation, 41)
    cursor = first_cursor(api, operation)
    api.credits.reset()
    api.credits.user("ada", balance=1)
    assert_error(api.call(operation, query=b"cursor=" + cursor.encode()), "invalid_cursor")


def test_cursor_can_be_reused(api: Api) -> None:
    create_items(api, Operation.LIST_TRANSACTIONS, 21)
    query = b"cursor=" + first_cursor(api, Operation.LIST_TRANSACTIONS).encode()
    once = item_ids(api.call(Operation.LIST_TRANSACTIONS, query=query))
    api.grant(5)
    assert item_ids(api.call(Operation.LIST_TRANSACTIONS, query=query)) == once == ["1"]


@pytest.mark.parametrize("query", [b"%zz", b"cursor2=x", b"&&&", b"=", b"%", b"a=%", b"Cursor=x"])
def test_unknown_query_parameters_are_ignored(api: Api, query: bytes) -> None:
    api.credits.user("ada")
    assert item_ids(api.call(Operation.LIST_USERS, query=query)) == ["ada"]


def test_default_page_size_is_20() -> None:
    assert (DEFAULT_CONTRACT.page_size, Contract().page_size) == (20, 20)
