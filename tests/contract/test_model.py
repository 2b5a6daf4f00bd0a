"""Each setting of a contract, each of its values: what goes over the wire, and what our own clients make of it."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.contract import DEFAULT_CONTRACT, MAX_AMOUNT, Contract, CredentialHeader, Operation, RouteTemplate
from fake_credits.errors import ERRORS, ApiError
from fake_credits.http_message import Request
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL
from tests.api.conftest import APP, GRANT, JSON, Api, ApiResponse
from tests.contract.conftest import NOW_MS, Under

CREATE = Operation.CREATE_TRANSACTION
BALANCE = Operation.GET_BALANCE
HISTORY = Operation.LIST_TRANSACTIONS
USERS = Operation.LIST_USERS


def order(delta: int, reason: str) -> bytes:
    return json.dumps({"delta": delta, "reason": reason}).encode()


def code(got: ApiResponse) -> str:
    """Return the code of a refusal of any form."""
    body = got.json()
    return str(body.get("error", body)["code"])


def ask(api: Api, operation: Operation, user: str = "ada", app: str = APP) -> ApiResponse:
    return api.call(operation, user, app=app, body=GRANT if operation is CREATE else b"")


def client(api: Api, **changes: Any) -> ServerClient:
    contract = replace(api.contract, **changes)
    base_url = IN_PROCESS_BASE_URL if api.mode == "in-process" else api.credits.base_url
    return ServerClient(base_url, api.credits.api_key, contract=contract, transport=api.transport)


# ---------------------------------------------------------------- row 1: routes and statuses of success


@pytest.mark.parametrize("method", ["DELETE", "GET", "PATCH", "POST", "PUT"])
def test_every_operation_moves_to_any_method_and_path(under: Under, method: str) -> None:
    users = {each: "" if each is USERS else "/of/{userId}" for each in Operation}
    routes = {each: RouteTemplate(method, f"/{each}{users[each]}/in/{{applicationId}}") for each in Operation}
    api = under({"ada": 5}, routes=routes)
    for operation in Operation:
        assert ask(api, operation).status == (201 if operation is CREATE else 200)
        old = DEFAULT_CONTRACT.routes[operation]
        target = old.path.replace("{applicationId}", APP).replace("{userId}", "ada").encode()
        assert code(api.send(Request(old.method, target, [*api.as_server, JSON], b""))) == "route_not_found"
    assert client(api).get_balance(APP, "ada").balance == 105


def test_a_literal_segment_goes_before_a_parameter_in_its_place(under: Under) -> None:
    routes = {
        **DEFAULT_CONTRACT.routes,
        Operation.GET_USER: RouteTemplate("GET", "/x/{applicationId}/{userId}"),
        USERS: RouteTemplate("GET", "/x/{applicationId}/users"),
    }
    api = under({"ada": 5}, routes=routes)
    assert ask(api, USERS).json()["users"][0]["userId"] == "ada"
    assert ask(api, Operation.GET_USER).json()["userId"] == "ada"


def test_an_unknown_path_names_the_nearest_operation_and_the_setting_that_moves_it(under: Under) -> None:
    got = under().send(Request("GET", b"/v2/applications/app-id/users/ada/balance", [], b""))
    assert code(got) == "route_not_found"
    nearest = "getBalance: GET /v1/applications/{applicationId}/users/{userId}/balance"
    assert nearest in got.json()["error"]["message"]
    assert "routes.getBalance" in got.json()["error"]["message"]


def test_statuses_of_success_are_the_contracts(under: Under) -> None:
    api = under(created_user_status=202, existing_user_status=299, created_transaction_status=206)
    statuses = [ask(api, each).status for each in (Operation.CREATE_USER, Operation.CREATE_USER, CREATE)]
    assert statuses == [202, 299, 206]


# ---------------------------------------------------------------- rows 2 to 4: credentials

FORMS = {
    "a scheme": (CredentialHeader("Authorization", "Bearer"), CredentialHeader("X-User-Token")),
    "one header, two schemes": (
        CredentialHeader("Authorization", "ApiKey"),
        CredentialHeader("Authorization", "Bearer"),
    ),
    "one header, one scheme": (
        CredentialHeader("Authorization", "Bearer"),
        CredentialHeader("Authorization", "Bearer"),
    ),
    "one header, a scheme for the token": (
        CredentialHeader("Authorization"),
        CredentialHeader("Authorization", "Bearer"),
    ),
    "one header, a scheme for the key": (CredentialHeader("X-Auth", "Key"), CredentialHeader("X-Auth")),
    "one header, no scheme": (CredentialHeader("X-Auth"), CredentialHeader("x-auth")),
}


@pytest.mark.parametrize("name", FORMS)
def test_credentials_travel_in_the_contracts_headers(under: Under, name: str) -> None:
    key, token = FORMS[name]
    api = under({"ada": 5}, api_key=key, user_token=token)
    assert ask(api, CREATE).status == 201
    assert api.call(BALANCE, credentials=api.as_user()).json() == {"balance": 105}
    assert code(api.call(CREATE, credentials=api.as_user(), body=GRANT)) == "insufficient_scope"
    assert (
        code(api.call(BALANCE, credentials=api.as_token(api.credits.token("ada", bad="tampered")))) == "invalid_token"
    )
    assert client(api).get_balance(APP, "ada").balance == 105
    assert api.credits.user_client("ada").get_balance("ada").balance == 105


@pytest.mark.parametrize(
    ("both", "status", "client_kind"), [("refuse", 400, "none"), ("key", 200, "server"), ("token", 403, "user")]
)
def test_of_both_credentials_one_wins_or_neither(under: Under, both: str, status: int, client_kind: str) -> None:
    api = under({"ada": 5, "bob": 1}, both_credentials=both)
    got = api.call(BALANCE, "ada", credentials=[*api.as_user("bob"), *api.as_server])
    assert got.status == status
    assert api.credits.journal.entries()[-1].client == client_kind


@pytest.mark.parametrize("both", ["refuse", "key", "token"])
def test_one_credential_twice_is_refused_whoever_wins(under: Under, both: str) -> None:
    api = under({"ada": 5}, both_credentials=both)
    assert code(api.call(BALANCE, credentials=[*api.as_server, *api.as_server])) == "ambiguous_credentials"


# ---------------------------------------------------------------- row 5: applications


@pytest.mark.parametrize("unknown_user", ["refuse", "create", "zero"])
def test_an_application_outside_a_closed_list_is_not_found(under: Under, unknown_user: str) -> None:
    api = under(applications=(APP,), unknown_user=unknown_user)
    for operation in Operation:
        before = api.state()
        got = ask(api, operation, app="another")
        assert (got.status, code(got)) == (404, "application_not_found")
        assert api.state() == before
    assert ask(api, Operation.CREATE_USER).status == 201


def test_an_application_that_the_key_may_not_touch_is_forbidden(under: Under) -> None:
    api = under({"ada": 5}, key_applications=(APP,))
    for operation in Operation:
        got = ask(api, operation, app="another")
        assert (got.status, code(got)) == (403, "forbidden")
        assert got.header("x-fake-credits-cause") == "auth:other_application"
        assert ask(api, operation).status in (200, 201)


def test_no_application_at_all_is_a_closed_list_too(under: Under) -> None:
    assert code(ask(under(applications=()), USERS)) == "application_not_found"


# ---------------------------------------------------------------- row 6: unknown users

READS = (Operation.GET_USER, BALANCE, HISTORY)
UNKNOWN = {
    ("refuse", Operation.GET_USER): (404, False),
    ("refuse", BALANCE): (404, False),
    ("refuse", HISTORY): (404, False),
    ("refuse", CREATE): (404, False),
    ("create", Operation.GET_USER): (200, True),
    ("create", BALANCE): (200, True),
    ("create", HISTORY): (200, True),
    ("create", CREATE): (201, True),
    ("zero", Operation.GET_USER): (404, False),
    ("zero", BALANCE): (200, False),
    ("zero", HISTORY): (200, False),
    ("zero", CREATE): (201, True),
}


@pytest.mark.parametrize(("policy", "operation"), UNKNOWN)
def test_an_unknown_user_is_what_the_contract_says(under: Under, policy: str, operation: Operation) -> None:
    status, exists = UNKNOWN[policy, operation]
    api = under(unknown_user=policy)
    got = ask(api, operation)
    assert got.status == status
    if status == 404:
        assert code(got) == "user_not_found"
    listed = [user["userId"] for user in ask(api, USERS).json()["users"]]
    assert listed == (["ada"] if exists else [])
    assert api.credits.journal.entries()[0].committed == exists


@pytest.mark.parametrize("policy", ["create", "zero"])
def test_an_unknown_user_has_nothing(under: Under, policy: str) -> None:
    api = under(unknown_user=policy)
    assert ask(api, BALANCE).json() == {"balance": 0}
    assert ask(api, HISTORY).json() == {"transactions": []}
    assert api.call(BALANCE, "bob", credentials=api.as_user("bob")).json() == {"balance": 0}


@pytest.mark.parametrize("policy", ["create", "zero"])
@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (order(-1, "consume"), "insufficient_credits"),
        (order(-1, "grant"), "validation_error"),
        (order(MAX_AMOUNT + 1, "grant"), "validation_error"),
        (b"{", "malformed_json"),
    ],
)
def test_a_transaction_that_is_refused_leaves_no_user_behind(
    under: Under, policy: str, body: bytes, refusal: str
) -> None:
    api = under(unknown_user=policy)
    assert code(api.call(CREATE, body=body)) == refusal
    assert ask(api, USERS).json() == {"users": []}
    assert not any(entry.committed for entry in api.credits.journal.entries())


# ---------------------------------------------------------------- rows 8 to 10: sign, floor, ceiling


@pytest.mark.parametrize(("delta", "reason"), [(-5, "grant"), (-5, "refund"), (5, "consume")])
def test_a_free_sign_takes_either(under: Under, delta: int, reason: str) -> None:
    body = order(delta, reason)
    assert code(under({"ada": 10}).call(CREATE, body=body)) == "validation_error"
    free = under({"ada": 10}, sign="free")
    assert free.call(CREATE, body=body).status == 201
    assert free.credits.balance("ada") == 10 + delta
    assert code(free.call(CREATE, body=order(-11 - delta, "grant"))) == "insufficient_credits"


@pytest.mark.parametrize("floor", [0, -1, -50, -MAX_AMOUNT])
def test_a_balance_falls_to_the_very_floor_and_no_further(under: Under, floor: int) -> None:
    api = under({"ada": 0}, floor=floor)
    if floor:
        assert api.call(CREATE, body=order(floor, "consume")).status == 201
    assert code(api.call(CREATE, body=order(-1, "consume"))) == "insufficient_credits"
    assert client(api).get_balance(APP, "ada").balance == floor


def test_without_a_floor_a_balance_falls_as_far_as_64_bits_hold(under: Under) -> None:
    api = under({"ada": 0}, floor=None, statuses={"insufficient_credits": 599})
    for _ in range(3):
        assert api.call(CREATE, body=order(-MAX_AMOUNT, "consume")).status == 201
    assert client(api).get_balance(APP, "ada").balance == -3 * MAX_AMOUNT


@pytest.mark.parametrize("ceiling", [1, 100, MAX_AMOUNT])
def test_a_balance_rises_to_the_very_ceiling_and_no_further(under: Under, ceiling: int) -> None:
    api = under({"ada": 0}, ceiling=ceiling)
    assert api.call(CREATE, body=order(ceiling, "grant")).status == 201
    assert code(api.call(CREATE, body=order(1, "refund"))) == "balance_limit_exceeded"
    assert client(api).get_balance(APP, "ada").balance == ceiling


def test_without_a_ceiling_a_balance_passes_what_javascript_counts(under: Under) -> None:
    api = under({"ada": 0}, ceiling=None)
    for _ in range(3):
        assert api.call(CREATE, body=order(MAX_AMOUNT, "grant")).status == 201
    assert client(api).get_balance(APP, "ada").balance == 3 * MAX_AMOUNT


# ---------------------------------------------------------------- row 11: the body of a created transaction

MADE = {"delta": 100, "reason": "grant", "createdAt": "2026-03-01T12:30:15.678Z"}
BODIES: dict[str, Any] = {
    "plain": MADE,
    "id": {**MADE, "id": "txn_2"},
    "balance": {**MADE, "balance": 105},
    "wrapped": {"transaction": MADE},
}


@pytest.mark.parametrize("form", [*BODIES, "empty"])
def test_a_created_transaction_is_answered_in_the_contracts_form(under: Under, form: str) -> None:
    api = under({"ada": 5}, created_transaction=form)
    got = ask(api, CREATE)
    if form == "empty":
        assert (got.status, got.body, got.header("content-type")) == (204, b"", None)
    else:
        assert (got.status, got.json()) == (201, BODIES[form])
    made = client(api).create_transaction(APP, "ada", delta=-1, reason="consume")
    assert (made.delta, made.reason) == (-1, "consume")
    assert [list(each) for each in ask(api, HISTORY).json()["transactions"]] == [list(MADE)] * 3


# ---------------------------------------------------------------- rows 12 to 15: lists


@pytest.mark.parametrize("users_order", ["oldest_first", "newest_first"])
@pytest.mark.parametrize("transactions_order", ["oldest_first", "newest_first"])
@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_lists_have_the_contracts_order_and_page_size(
    under: Under, users_order: Any, transactions_order: Any, page_size: int
) -> None:
    api = under(
        {"ada": 0, "bob": 0, "cy": 0},
        users_order=users_order,
        transactions_order=transactions_order,
        page_size=page_size,
    )
    for delta in (1, 2, 3):
        api.grant(delta)
    users = [user.user_id for user in client(api).iter_users(APP)]
    deltas = [each.delta for each in client(api).iter_transactions(APP, "ada")]
    assert users == (["ada", "bob", "cy"] if users_order == "oldest_first" else ["cy", "bob", "ada"])
    assert deltas == ([1, 2, 3] if transactions_order == "oldest_first" else [3, 2, 1])
    assert len(ask(api, USERS).json()["users"]) == min(page_size, 3)


@pytest.mark.parametrize("operation", [USERS, HISTORY])
def test_a_limit_is_taken_by_its_parameters_name(under: Under, operation: Operation) -> None:
    api = under({"ada": 0, "bob": 0, "cy": 0}, limit_parameter="page[size]", page_size=3)
    for delta in (1, 2, 3):
        api.grant(delta)

    def count(query: bytes) -> int:
        [items, *_] = api.call(operation, query=query).json().values()
        return len(items)

    assert [count(query) for query in (b"", b"page%5Bsize%5D=2", b"page[size]=1000", b"limit=1")] == [3, 2, 3, 3]
    for bad in (b"0", b"1001", b"-1", b"1.5", b"", b"x", b"%D9%A1"):
        got = api.call(operation, query=b"page[size]=" + bad)
        assert code(got) == "validation_error"
        assert got.json()["error"]["details"][0]["field"] == "page[size]"


def test_without_a_limit_parameter_no_name_sets_the_page_size(under: Under) -> None:
    api = under({"ada": 0, "bob": 0})
    assert len(api.call(USERS, query=b"limit=1&=1").json()["users"]) == 2


@pytest.mark.parametrize("name", ["after", "page[after]", "ü&=", "a b+"])
def test_a_cursor_goes_by_its_parameters_name(under: Under, name: str) -> None:
    api = under({"ada": 0, "bob": 0, "cy": 0}, cursor_parameter=name, page_size=1)
    assert [user.user_id for user in client(api).iter_users(APP)] == ["ada", "bob", "cy"]
    assert len(api.call(USERS, query=b"cursor=rubbish").json()["users"]) == 1


@pytest.mark.parametrize(
    ("form", "trailer"), [("absent", {}), ("null", {"nextCursor": None}), ("empty", {"nextCursor": ""})]
)
def test_the_end_of_a_list_has_the_contracts_form(under: Under, form: str, trailer: dict[str, Any]) -> None:
    api = under({"ada": 0, "bob": 0}, end_of_list=form, page_size=1)
    assert ask(api, HISTORY).json() == {"transactions": [], **trailer}
    first = ask(api, USERS).json()
    assert first["nextCursor"]
    last = api.call(USERS, query=b"cursor=" + first["nextCursor"].encode()).json()
    assert {name: value for name, value in last.items() if name != "users"} == trailer
    assert [user.user_id for user in client(api).iter_users(APP)] == ["ada", "bob"]


# ---------------------------------------------------------------- row 17: idempotency


def test_an_idempotency_key_changes_nothing_and_is_journalled(under: Under) -> None:
    api = under({"ada": 0}, idempotency="ignore")
    for _ in range(2):
        api.call(CREATE, body=GRANT, headers=[(b"idempotency-key", b"once")])
    assert api.credits.balance("ada") == 200
    assert [entry.idempotency_key for entry in api.credits.journal.entries()] == ["once", "once"]


# ---------------------------------------------------------------- rows 18 and 19: refusals


def refusals(api: Api) -> dict[str, ApiResponse]:
    """Return one refusal of each kind that needs no fault."""
    ada = [*api.as_user("ada")]
    path = api.path(BALANCE)
    sent = {
        "malformed_request": api.send(Request("GET", b"/%zz", [], b"")),
        "malformed_json": api.call(CREATE, body=b"{"),
        "validation_error": api.call(CREATE, body=b"{}"),
        "invalid_cursor": api.call(USERS, query=b"cursor=x"),
        "balance_limit_exceeded": api.call(CREATE, body=order(101, "grant")),
        "ambiguous_credentials": api.call(BALANCE, credentials=[*ada, *api.as_server]),
        "missing_credentials": api.call(BALANCE, credentials=[]),
        "invalid_api_key": api.call(BALANCE, credentials=[(b"x-api-key", b"sk_wrong")]),
        "invalid_token": api.call(BALANCE, credentials=api.as_token("x.y.z")),
        "token_expired": api.call(BALANCE, credentials=api.as_token(api.credits.token("ada", bad="expired"))),
        "insufficient_credits": api.call(CREATE, body=order(-101, "consume")),
        "forbidden": api.call(BALANCE, "bob", credentials=ada),
        "insufficient_scope": api.call(CREATE, credentials=ada, body=GRANT),
        "user_not_found": api.call(BALANCE, "nobody"),
        "application_not_found": api.call(BALANCE, app="another"),
        "route_not_found": api.send(Request("GET", b"/nowhere", [], b"")),
        "method_not_allowed": api.send(Request("DELETE", path, api.as_server, b"")),
        "payload_too_large": api.call(CREATE, body=b" " * (64 * 1024 + 1)),
        "unsupported_media_type": api.send(
            Request("POST", api.path(CREATE), [*api.as_server, (b"content-type", b"text/plain")], GRANT)
        ),
    }
    if api.mode == "live":
        sent["host_not_allowed"] = api.send(Request("GET", path, [(b"host", b"evil.example")], b""))
    return sent


@pytest.mark.parametrize("form", ["nested", "problem", "flat"])
def test_every_refusal_has_the_contracts_form(under: Under, form: str) -> None:
    api = under({"ada": 0}, error_body=form, applications=(APP,), ceiling=100)
    for kind, got in refusals(api).items():
        body = got.json()
        detailed = ["details"] if kind == "validation_error" else []
        error = body["error"] if form == "nested" else body
        assert error["code"] == kind
        if form == "flat":
            assert list(error) == ["code", "message"]
        elif form == "nested":
            assert (list(body), list(error)) == (["error"], ["code", "message", "requestId", *detailed])
        else:
            assert list(error) == ["type", "title", "status", "detail", "code", "requestId", *detailed]
            assert (error["status"], got.header("content-type")) == (got.status, "application/problem+json")
        assert got.header("x-request-id")


def test_every_code_moves_to_any_status_and_keeps_what_it_says(under: Under) -> None:
    """Each code that a request can meet gets a status of its own; our clients still raise its class."""
    moved = {kind: 430 + at for at, kind in enumerate(ERRORS)}
    api = under({"ada": 0}, statuses=moved, applications=(APP,), ceiling=100)
    for kind, got in refusals(api).items():
        assert (got.status, code(got)) == (moved[kind], kind)
        assert (got.header("allow") is not None) == (kind == "method_not_allowed")
        assert got.header("www-authenticate") is None
    with pytest.raises(ERRORS["insufficient_credits"]) as caught:
        client(api).create_transaction(APP, "ada", delta=-101, reason="consume")
    error: ApiError = caught.value
    assert error.status == moved["insufficient_credits"]


def test_a_401_bears_a_challenge_whichever_code_it_is(under: Under) -> None:
    """RFC 9110, section 15.5.2; only a credential that was refused is an error in it (RFC 6750, section 3.1)."""
    api = under({"ada": 0}, statuses=dict.fromkeys(ERRORS, 401), applications=(APP,), ceiling=100)
    wrong = {
        "invalid_api_key": ', error="invalid_token"',
        "invalid_token": ', error="invalid_token"',
        "token_expired": ', error="invalid_token"',
        "insufficient_scope": ', error="insufficient_scope"',
    }
    for kind, got in refusals(api).items():
        assert (got.status, got.header("www-authenticate")) == (401, f'Bearer realm="credits"{wrong.get(kind, "")}')


@pytest.mark.parametrize(
    ("key", "token", "scheme"),
    [
        (CredentialHeader("Authorization", "ApiKey"), CredentialHeader("X-Token"), "ApiKey"),
        (CredentialHeader("X-Key"), CredentialHeader("Authorization", "Token"), "Token"),
        (CredentialHeader("X-Key"), CredentialHeader("X-Token"), "Bearer"),
    ],
)
def test_a_challenge_names_the_contracts_scheme(
    under: Under, key: CredentialHeader, token: CredentialHeader, scheme: str
) -> None:
    got = under(api_key=key, user_token=token).call(BALANCE, credentials=[])
    assert got.header("www-authenticate") == f'{scheme} realm="credits"'


# ---------------------------------------------------------------- rows 20 and 21: times and names


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("iso_ms", "2026-03-01T12:30:15.678Z"),
        ("iso_s", "2026-03-01T12:30:15Z"),
        ("unix_s", NOW_MS // 1000),
        ("unix_ms", NOW_MS),
    ],
)
def test_a_time_has_the_contracts_form(under: Under, form: str, value: object) -> None:
    api = under({"ada": 0}, created_at=form)
    assert ask(api, Operation.GET_USER).json()["createdAt"] == value
    assert ask(api, USERS).json()["users"][0]["createdAt"] == value
    assert ask(api, CREATE).json()["createdAt"] == value
    assert ask(api, HISTORY).json()["transactions"][0]["createdAt"] == value
    seen_ms = round(client(api).get_user(APP, "ada").created_at.timestamp() * 1000)
    assert seen_ms == (NOW_MS if form.endswith("ms") else NOW_MS // 1000 * 1000)


NAMES = {
    "applicationId": "tenant",
    "userId": "a%sb",
    "createdAt": "ü",
    "users": "%",
    "transactions": "a b",
    "transaction": "/~",
    "nextCursor": "<next>",
    "balance": "100%d",
    "delta": "amount%",
    "reason": "'why'",
    "id": "{id}",
}


@pytest.mark.parametrize("form", ["id", "balance", "wrapped"])
def test_members_have_the_contracts_names(under: Under, form: str) -> None:
    api = under({"ada": 0, "bob": 0}, field_names=NAMES, created_transaction=form, page_size=1)
    assert ask(api, Operation.GET_USER).json() == {"tenant": APP, "a%sb": "ada", "ü": MADE["createdAt"]}
    body = json.dumps({"amount%": 7, "'why'": "grant"}).encode()
    made = api.call(CREATE, body=body).json()
    moved = {"amount%": 7, "'why'": "grant", "ü": MADE["createdAt"]}
    assert (
        made
        == {
            "id": {**moved, "{id}": "txn_1"},
            "balance": {**moved, "100%d": 7},
            "wrapped": {"/~": moved},
        }[form]
    )
    assert ask(api, BALANCE).json() == {"100%d": 7}
    assert ask(api, HISTORY).json() == {"a b": [moved]}
    assert list(ask(api, USERS).json()) == ["%", "<next>"]
    sent = client(api).create_transaction(APP, "ada", delta=1, reason="grant")
    assert (sent.delta, client(api).get_balance(APP, "ada").balance) == (1, 8)
    assert [user.user_id for user in client(api).iter_users(APP)] == ["ada", "bob"]
    assert [each.delta for each in client(api).iter_transactions(APP, "ada")] == [1, 7]


@pytest.mark.parametrize(
    ("body", "fields_named"),
    [
        (b"{}", ["amount", "type"]),
        (b'{"delta":1,"reason":"grant"}', ["amount", "type", "delta", "reason"]),
        (b'{"amount":0,"type":"grant"}', ["amount"]),
        (b'{"amount":-1,"type":"grant"}', ["amount"]),
        (b'{"amount":1,"type":"gift"}', ["type"]),
    ],
)
def test_what_is_wrong_is_named_as_on_the_wire(under: Under, body: bytes, fields_named: list[str]) -> None:
    api = under({"ada": 0}, field_names={"delta": "amount", "reason": "type"})
    details = api.call(CREATE, body=body).json()["error"]["details"]
    assert [each["field"] for each in details] == fields_named


# ---------------------------------------------------------------- row 23: browsers

ORIGIN = (b"origin", b"https://app.example")
ASKS = (b"access-control-request-method", b"GET")


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(("*",), "*"), ((), None), (("https://app.example",), "https://app.example"), (("https://b.example",), None)],
)
def test_pages_of_the_contracts_origins_may_read(under: Under, origins: tuple[str, ...], allowed: str | None) -> None:
    api = under({"ada": 5}, cors_origins=origins)
    for user in ("ada", "bob"):
        got = api.call(BALANCE, user, credentials=api.as_user("ada"), headers=[ORIGIN])
        assert got.header("access-control-allow-origin") == allowed


def test_a_preflight_allows_the_methods_that_reads_have(under: Under) -> None:
    routes = {**DEFAULT_CONTRACT.routes, BALANCE: RouteTemplate("PUT", "/balance/{applicationId}/{userId}")}
    got = under(routes=routes).send(Request("OPTIONS", b"/balance/app-id/ada", [ORIGIN, ASKS], b""))
    assert (got.status, got.header("access-control-allow-methods")) == (204, "GET, PUT")


# ---------------------------------------------------------------- row 24: ids


@pytest.mark.parametrize("longest", [1, 8, 256])
def test_an_id_has_at_most_the_contracts_length(under: Under, longest: int) -> None:
    api = under(id_max_length=longest)
    app = "a" * longest
    assert api.call(Operation.CREATE_USER, "ü" * longest, app=app).status == 201
    for user, application, field in [("u" * (longest + 1), app, "userId"), ("u", app + "a", "applicationId")]:
        got = api.call(Operation.CREATE_USER, user, app=application)
        assert (got.status, got.json()["error"]["details"][0]["field"]) == (400, field)


def test_an_id_matches_the_contracts_pattern_as_a_whole(under: Under) -> None:
    api = under(id_pattern="[a-z-]+")
    assert api.call(Operation.CREATE_USER, "ada").status == 201
    assert len(ask(api, USERS).json()["users"]) == 1  # whose path names no user
    for user in ("Ada", "ada1", "ada\n", "1"):
        assert code(api.call(Operation.CREATE_USER, user)) == "validation_error"


# ---------------------------------------------------------------- none is left out

TESTED_ELSEWHERE = {
    "trust": "tests/auth/test_trusted.py, tests/plugin/test_contract.py, tests/cli/test_contract.py",
    "amounts": "it has one value yet: tests/api/test_bad_input.py",
    "retry_after": "only a fault gives a 429: what OpenAPI says of it is in test_openapi.py",
}


def test_every_setting_is_tested_here_or_where_it_says() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    forgotten = [each.name for each in fields(Contract) if f"{each.name}=" not in source]
    assert forgotten == list(TESTED_ELSEWHERE)
