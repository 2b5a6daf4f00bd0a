"""Every setting of a contract with each of its values: the HTTP messages, and how the clients read them."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from fake_credits.client.server import ServerClient
from fake_credits.contract import (
    DEFAULT_CONTRACT,
    MAX_AMOUNT,
    Contract,
    CredentialHeader,
    Operation,
    OperationName,
    RouteTemplate,
)
from fake_credits.contract.types import METHOD_NAMES
from fake_credits.errors import ERRORS, ApiError
from fake_credits.http_message import Request
from fake_credits.transports.in_process import IN_PROCESS_BASE_URL
from tests.api.conftest import APP, GRANT, JSON, Api, ApiResponse
from tests.contract.conftest import NOW_MS, ApiFactory

CREATE = Operation.CREATE_TRANSACTION
BALANCE = Operation.GET_BALANCE
HISTORY = Operation.LIST_TRANSACTIONS
USERS = Operation.LIST_USERS


def transaction_body(delta: int, reason: str) -> bytes:
    return json.dumps({"delta": delta, "reason": reason}).encode()


def error_code(response: ApiResponse) -> str:
    """Return the code of an error response, whatever the form of its body."""
    body = response.json()
    return str(body.get("error", body)["code"])


def call(api: Api, operation: Operation, user: str = "ada", app: str = APP) -> ApiResponse:
    return api.call(operation, user, app=app, body=GRANT if operation is CREATE else b"")


def client_for(api: Api, **changes: Any) -> ServerClient:
    contract = replace(api.contract, **changes)
    base_url = IN_PROCESS_BASE_URL if api.mode == "in-process" else api.credits.base_url
    return ServerClient(base_url, api.credits.api_key, contract=contract, transport=api.transport)


# ---------------------------------------------------------------- row 1: routes and success statuses


@pytest.mark.parametrize("method", ["DELETE", "GET", "PATCH", "POST", "PUT"])
def test_every_operation_can_move_to_any_method_and_path(make_api: ApiFactory, method: str) -> None:
    users = {operation: "" if operation is USERS else "/of/{userId}" for operation in Operation}
    routes = {
        operation: RouteTemplate(method, f"/{operation}{users[operation]}/in/{{applicationId}}")
        for operation in Operation
    }
    api = make_api({"ada": 5}, routes=routes)
    for operation in Operation:
        assert call(api, operation).status == (201 if operation is CREATE else 200)
        old = DEFAULT_CONTRACT.routes[operation]
        target = old.path.replace("{applicationId}", APP).replace("{userId}", "ada").encode()
        assert error_code(api.send(Request(old.method, target, [*api.as_server, JSON], b""))) == "route_not_found"
    assert client_for(api).get_balance(APP, "ada").balance == 105


def test_literal_segment_takes_precedence_over_parameter(make_api: ApiFactory) -> None:
    routes = {
        **DEFAULT_CONTRACT.routes,
        Operation.GET_USER: RouteTemplate("GET", "/x/{applicationId}/{userId}"),
        USERS: RouteTemplate("GET", "/x/{applicationId}/users"),
    }
    api = make_api({"ada": 5}, routes=routes)
    assert call(api, USERS).json()["users"][0]["userId"] == "ada"
    assert call(api, Operation.GET_USER).json()["userId"] == "ada"


def test_unknown_path_error_names_nearest_operation_and_its_setting(make_api: ApiFactory) -> None:
    response = make_api().send(Request("GET", b"/v2/applications/app-id/users/ada/balance", [], b""))
    assert error_code(response) == "route_not_found"
    nearest = "getBalance: GET /v1/applications/{applicationId}/users/{userId}/balance"
    assert nearest in response.json()["error"]["message"]
    assert "routes.getBalance" in response.json()["error"]["message"]


def test_success_statuses_are_configurable(make_api: ApiFactory) -> None:
    api = make_api(created_user_status=202, existing_user_status=299, created_transaction_status=206)
    statuses = [call(api, operation).status for operation in (Operation.CREATE_USER, Operation.CREATE_USER, CREATE)]
    assert statuses == [202, 299, 206]


# ---------------------------------------------------------------- rows 2 to 4: credentials

CREDENTIAL_HEADERS = {
    "scheme for the key": (CredentialHeader("Authorization", "Bearer"), CredentialHeader("X-User-Token")),
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


@pytest.mark.parametrize("name", CREDENTIAL_HEADERS)
def test_credential_headers_are_configurable(make_api: ApiFactory, name: str) -> None:
    key, token = CREDENTIAL_HEADERS[name]
    api = make_api({"ada": 5}, api_key=key, user_token=token)
    assert call(api, CREATE).status == 201
    assert api.call(BALANCE, credentials=api.as_user()).json() == {"balance": 105}
    assert error_code(api.call(CREATE, credentials=api.as_user(), body=GRANT)) == "insufficient_scope"
    assert (
        error_code(api.call(BALANCE, credentials=api.as_token(api.credits.token("ada", bad="tampered"))))
        == "invalid_token"
    )
    assert client_for(api).get_balance(APP, "ada").balance == 105
    assert api.credits.user_client("ada").get_balance("ada").balance == 105


@pytest.mark.parametrize(
    ("both", "status", "client_kind"), [("refuse", 400, "none"), ("key", 200, "server"), ("token", 403, "user")]
)
def test_both_credentials_policy_selects_credential_or_rejects(
    make_api: ApiFactory, both: str, status: int, client_kind: str
) -> None:
    api = make_api({"ada": 5, "bob": 1}, both_credentials=both)
    response = api.call(BALANCE, "ada", credentials=[*api.as_user("bob"), *api.as_server])
    assert response.status == status
    assert api.credits.journal.entries()[-1].client == client_kind


@pytest.mark.parametrize("both", ["refuse", "key", "token"])
def test_repeated_credential_is_rejected_under_any_policy(make_api: ApiFactory, both: str) -> None:
    api = make_api({"ada": 5}, both_credentials=both)
    assert error_code(api.call(BALANCE, credentials=[*api.as_server, *api.as_server])) == "ambiguous_credentials"


# ---------------------------------------------------------------- row 5: applications


@pytest.mark.parametrize("unknown_user", ["refuse", "create", "zero"])
def test_application_outside_closed_list_is_not_found(make_api: ApiFactory, unknown_user: str) -> None:
    api = make_api(applications=(APP,), unknown_user=unknown_user)
    for operation in Operation:
        before = api.state()
        response = call(api, operation, app="another")
        assert (response.status, error_code(response)) == (404, "application_not_found")
        assert api.state() == before
    assert call(api, Operation.CREATE_USER).status == 201


def test_application_outside_key_applications_is_forbidden(make_api: ApiFactory) -> None:
    api = make_api({"ada": 5}, key_applications=(APP,))
    for operation in Operation:
        response = call(api, operation, app="another")
        assert (response.status, error_code(response)) == (403, "forbidden")
        assert response.header("x-fake-credits-cause") == "auth:other_application"
        assert call(api, operation).status in (200, 201)


def test_empty_application_list_is_closed(make_api: ApiFactory) -> None:
    assert error_code(call(make_api(applications=()), USERS)) == "application_not_found"


# ---------------------------------------------------------------- row 6: unknown users

READS = (Operation.GET_USER, BALANCE, HISTORY)
UNKNOWN_USER_OUTCOMES = {
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


@pytest.mark.parametrize(("policy", "operation"), UNKNOWN_USER_OUTCOMES)
def test_unknown_user_policy_is_applied(make_api: ApiFactory, policy: str, operation: Operation) -> None:
    status, exists = UNKNOWN_USER_OUTCOMES[policy, operation]
    api = make_api(unknown_user=policy)
    response = call(api, operation)
    assert response.status == status
    if status == 404:
        assert error_code(response) == "user_not_found"
    listed = [user["userId"] for user in call(api, USERS).json()["users"]]
    assert listed == (["ada"] if exists else [])
    assert api.credits.journal.entries()[0].committed == exists


@pytest.mark.parametrize("policy", ["create", "zero"])
def test_unknown_user_has_zero_balance_and_empty_history(make_api: ApiFactory, policy: str) -> None:
    api = make_api(unknown_user=policy)
    assert call(api, BALANCE).json() == {"balance": 0}
    assert call(api, HISTORY).json() == {"transactions": []}
    assert api.call(BALANCE, "bob", credentials=api.as_user("bob")).json() == {"balance": 0}


@pytest.mark.parametrize("policy", ["create", "zero"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (transaction_body(-1, "consume"), "insufficient_credits"),
        (transaction_body(-1, "grant"), "validation_error"),
        (transaction_body(MAX_AMOUNT + 1, "grant"), "validation_error"),
        (b"{", "malformed_json"),
    ],
)
def test_rejected_transaction_does_not_create_user(make_api: ApiFactory, policy: str, body: bytes, error: str) -> None:
    api = make_api(unknown_user=policy)
    assert error_code(api.call(CREATE, body=body)) == error
    assert call(api, USERS).json() == {"users": []}
    assert not any(entry.committed for entry in api.credits.journal.entries())


# ---------------------------------------------------------------- rows 8 to 10: sign, floor, ceiling


@pytest.mark.parametrize(("delta", "reason"), [(-5, "grant"), (-5, "refund"), (5, "consume")])
def test_free_sign_accepts_either_sign(make_api: ApiFactory, delta: int, reason: str) -> None:
    body = transaction_body(delta, reason)
    assert error_code(make_api({"ada": 10}).call(CREATE, body=body)) == "validation_error"
    free = make_api({"ada": 10}, sign="free")
    assert free.call(CREATE, body=body).status == 201
    assert free.credits.balance("ada") == 10 + delta
    assert error_code(free.call(CREATE, body=transaction_body(-11 - delta, "grant"))) == "insufficient_credits"


@pytest.mark.parametrize("floor", [0, -1, -50, -MAX_AMOUNT])
def test_balance_can_reach_floor_but_not_go_below(make_api: ApiFactory, floor: int) -> None:
    api = make_api({"ada": 0}, floor=floor)
    if floor:
        assert api.call(CREATE, body=transaction_body(floor, "consume")).status == 201
    assert error_code(api.call(CREATE, body=transaction_body(-1, "consume"))) == "insufficient_credits"
    assert client_for(api).get_balance(APP, "ada").balance == floor


def test_balance_without_floor_falls_below_min_safe_integer(make_api: ApiFactory) -> None:
    api = make_api({"ada": 0}, floor=None, statuses={"insufficient_credits": 599})
    for _ in range(3):
        assert api.call(CREATE, body=transaction_body(-MAX_AMOUNT, "consume")).status == 201
    assert client_for(api).get_balance(APP, "ada").balance == -3 * MAX_AMOUNT


@pytest.mark.parametrize("ceiling", [1, 100, MAX_AMOUNT])
def test_balance_can_reach_ceiling_but_not_exceed_it(make_api: ApiFactory, ceiling: int) -> None:
    api = make_api({"ada": 0}, ceiling=ceiling)
    assert api.call(CREATE, body=transaction_body(ceiling, "grant")).status == 201
    assert error_code(api.call(CREATE, body=transaction_body(1, "refund"))) == "balance_limit_exceeded"
    assert client_for(api).get_balance(APP, "ada").balance == ceiling


def test_balance_without_ceiling_exceeds_max_safe_integer(make_api: ApiFactory) -> None:
    api = make_api({"ada": 0}, ceiling=None)
    for _ in range(3):
        assert api.call(CREATE, body=transaction_body(MAX_AMOUNT, "grant")).status == 201
    assert client_for(api).get_balance(APP, "ada").balance == 3 * MAX_AMOUNT


# ---------------------------------------------------------------- row 11: the body of a created transaction

TRANSACTION = {"delta": 100, "reason": "grant", "createdAt": "2026-03-01T12:30:15.678Z"}
BODIES: dict[str, Any] = {
    "plain": TRANSACTION,
    "id": {**TRANSACTION, "id": "txn_2"},
    "balance": {**TRANSACTION, "balance": 105},
    "wrapped": {"transaction": TRANSACTION},
}


@pytest.mark.parametrize("form", [*BODIES, "empty"])
def test_created_transaction_form_is_configurable(make_api: ApiFactory, form: str) -> None:
    api = make_api({"ada": 5}, created_transaction=form)
    response = call(api, CREATE)
    if form == "empty":
        assert (response.status, response.body, response.header("content-type")) == (204, b"", None)
    else:
        assert (response.status, response.json()) == (201, BODIES[form])
    created = client_for(api).create_transaction(APP, "ada", delta=-1, reason="consume")
    assert (created.delta, created.reason) == (-1, "consume")
    assert [list(item) for item in call(api, HISTORY).json()["transactions"]] == [list(TRANSACTION)] * 3


# ---------------------------------------------------------------- rows 12 to 15: lists


@pytest.mark.parametrize("setting", ["page_size", "id_max_length", "ceiling"])
@pytest.mark.parametrize("number", [204, 205])
def test_number_that_is_not_a_status_may_equal_a_bodiless_status(setting: str, number: int) -> None:
    settings: dict[str, Any] = {setting: number}
    assert getattr(Contract(**settings), setting) == number


@pytest.mark.parametrize("users_order", ["oldest_first", "newest_first"])
@pytest.mark.parametrize("transactions_order", ["oldest_first", "newest_first"])
@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_list_order_and_page_size_are_configurable(
    make_api: ApiFactory, users_order: Any, transactions_order: Any, page_size: int
) -> None:
    api = make_api(
        {"ada": 0, "bob": 0, "cy": 0},
        users_order=users_order,
        transactions_order=transactions_order,
        page_size=page_size,
    )
    for delta in (1, 2, 3):
        api.grant(delta)
    users = [user.user_id for user in client_for(api).iter_users(APP)]
    deltas = [item.delta for item in client_for(api).iter_transactions(APP, "ada")]
    assert users == (["ada", "bob", "cy"] if users_order == "oldest_first" else ["cy", "bob", "ada"])
    assert deltas == ([1, 2, 3] if transactions_order == "oldest_first" else [3, 2, 1])
    assert len(call(api, USERS).json()["users"]) == min(page_size, 3)


@pytest.mark.parametrize("operation", [USERS, HISTORY])
def test_limit_parameter_name_is_configurable(make_api: ApiFactory, operation: Operation) -> None:
    api = make_api({"ada": 0, "bob": 0, "cy": 0}, limit_parameter="page[size]", page_size=3)
    for delta in (1, 2, 3):
        api.grant(delta)

    def count(query: bytes) -> int:
        [items, *_] = api.call(operation, query=query).json().values()
        return len(items)

    assert [count(query) for query in (b"", b"page%5Bsize%5D=2", b"page[size]=1000", b"limit=1")] == [3, 2, 3, 3]
    for value in (b"0", b"1001", b"-1", b"1.5", b"", b"x", b"%D9%A1"):
        response = api.call(operation, query=b"page[size]=" + value)
        assert error_code(response) == "validation_error"
        assert response.json()["error"]["details"][0]["field"] == "page[size]"


def test_page_size_is_fixed_without_limit_parameter(make_api: ApiFactory) -> None:
    api = make_api({"ada": 0, "bob": 0})
    assert len(api.call(USERS, query=b"limit=1&=1").json()["users"]) == 2


@pytest.mark.parametrize("name", ["after", "page[after]", "ü&=", "a b+"])
def test_cursor_parameter_name_is_configurable(make_api: ApiFactory, name: str) -> None:
    api = make_api({"ada": 0, "bob": 0, "cy": 0}, cursor_parameter=name, page_size=1)
    assert [user.user_id for user in client_for(api).iter_users(APP)] == ["ada", "bob", "cy"]
    assert len(api.call(USERS, query=b"cursor=rubbish").json()["users"]) == 1


@pytest.mark.parametrize(
    ("form", "trailer"), [("absent", {}), ("null", {"nextCursor": None}), ("empty", {"nextCursor": ""})]
)
def test_end_of_list_form_is_configurable(make_api: ApiFactory, form: str, trailer: dict[str, Any]) -> None:
    api = make_api({"ada": 0, "bob": 0}, end_of_list=form, page_size=1)
    assert call(api, HISTORY).json() == {"transactions": [], **trailer}
    first = call(api, USERS).json()
    assert first["nextCursor"]
    last = api.call(USERS, query=b"cursor=" + first["nextCursor"].encode()).json()
    assert {name: value for name, value in last.items() if name != "users"} == trailer
    assert [user.user_id for user in client_for(api).iter_users(APP)] == ["ada", "bob"]


# ---------------------------------------------------------------- row 17: idempotency


def test_idempotency_key_is_ignored_but_journaled(make_api: ApiFactory) -> None:
    api = make_api({"ada": 0}, idempotency="ignore")
    for _ in range(2):
        api.call(CREATE, body=GRANT, headers=[(b"idempotency-key", b"once")])
    assert api.credits.balance("ada") == 200
    assert [entry.idempotency_key for entry in api.credits.journal.entries()] == ["once", "once"]


# ---------------------------------------------------------------- rows 18 and 19: errors


def error_responses(api: Api) -> dict[str, ApiResponse]:
    """Return one response for each error code that occurs without a fault."""
    ada = [*api.as_user("ada")]
    path = api.path(BALANCE)
    sent = {
        "malformed_request": api.send(Request("GET", b"/%zz", [], b"")),
        "malformed_json": api.call(CREATE, body=b"{"),
        "validation_error": api.call(CREATE, body=b"{}"),
        "invalid_cursor": api.call(USERS, query=b"cursor=x"),
        "balance_limit_exceeded": api.call(CREATE, body=transaction_body(101, "grant")),
        "ambiguous_credentials": api.call(BALANCE, credentials=[*ada, *api.as_server]),
        "missing_credentials": api.call(BALANCE, credentials=[]),
        "invalid_api_key": api.call(BALANCE, credentials=[(b"x-api-key", b"sk_wrong")]),
        "invalid_token": api.call(BALANCE, credentials=api.as_token("x.y.z")),
        "token_expired": api.call(BALANCE, credentials=api.as_token(api.credits.token("ada", bad="expired"))),
        "insufficient_credits": api.call(CREATE, body=transaction_body(-101, "consume")),
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
def test_error_body_form_applies_to_every_error(make_api: ApiFactory, form: str) -> None:
    api = make_api({"ada": 0}, error_body=form, applications=(APP,), ceiling=100)
    for kind, response in error_responses(api).items():
        body = response.json()
        detailed = ["details"] if kind == "validation_error" else []
        error = body["error"] if form == "nested" else body
        assert error["code"] == kind
        if form == "flat":
            assert list(error) == ["code", "message"]
        elif form == "nested":
            assert (list(body), list(error)) == (["error"], ["code", "message", "requestId", *detailed])
        else:
            assert list(error) == ["type", "title", "status", "detail", "code", "requestId", *detailed]
            assert (error["status"], response.header("content-type")) == (response.status, "application/problem+json")
        assert response.header("x-request-id")


def test_every_error_code_can_have_any_status(make_api: ApiFactory) -> None:
    """Each code gets a different status; the clients still choose the exception class by code."""
    moved = {kind: 430 + index for index, kind in enumerate(ERRORS)}
    api = make_api({"ada": 0}, statuses=moved, applications=(APP,), ceiling=100)
    for kind, response in error_responses(api).items():
        assert (response.status, error_code(response)) == (moved[kind], kind)
        assert (response.header("allow") is not None) == (kind == "method_not_allowed")
        assert response.header("www-authenticate") is None
    with pytest.raises(ERRORS["insufficient_credits"]) as caught:
        client_for(api).create_transaction(APP, "ada", delta=-101, reason="consume")
    error: ApiError = caught.value
    assert error.status == moved["insufficient_credits"]


def test_every_401_has_challenge(make_api: ApiFactory) -> None:
    """RFC 9110, section 15.5.2; an error code is only included for a rejected credential (RFC 6750, section 3.1)."""
    api = make_api({"ada": 0}, statuses=dict.fromkeys(ERRORS, 401), applications=(APP,), ceiling=100)
    challenge_errors = {
        "invalid_api_key": ', error="invalid_token"',
        "invalid_token": ', error="invalid_token"',
        "token_expired": ', error="invalid_token"',
        "insufficient_scope": ', error="insufficient_scope"',
    }
    for kind, response in error_responses(api).items():
        assert (response.status, response.header("www-authenticate")) == (
            401,
            f'Bearer realm="credits"{challenge_errors.get(kind, "")}',
        )


@pytest.mark.parametrize(
    ("key", "token", "scheme"),
    [
        (CredentialHeader("Authorization", "ApiKey"), CredentialHeader("X-Token"), "ApiKey"),
        (CredentialHeader("X-Key"), CredentialHeader("Authorization", "Token"), "Token"),
        (CredentialHeader("X-Key"), CredentialHeader("X-Token"), "Bearer"),
    ],
)
def test_challenge_names_configured_scheme(
    make_api: ApiFactory, key: CredentialHeader, token: CredentialHeader, scheme: str
) -> None:
    response = make_api(api_key=key, user_token=token).call(BALANCE, credentials=[])
    assert response.header("www-authenticate") == f'{scheme} realm="credits"'


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
def test_created_at_form_is_configurable(make_api: ApiFactory, form: str, value: object) -> None:
    api = make_api({"ada": 0}, created_at=form)
    assert call(api, Operation.GET_USER).json()["createdAt"] == value
    assert call(api, USERS).json()["users"][0]["createdAt"] == value
    assert call(api, CREATE).json()["createdAt"] == value
    assert call(api, HISTORY).json()["transactions"][0]["createdAt"] == value
    created_at_ms = round(client_for(api).get_user(APP, "ada").created_at.timestamp() * 1000)
    assert created_at_ms == (NOW_MS if form.endswith("ms") else NOW_MS // 1000 * 1000)


RENAMED_FIELDS = {
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
def test_field_names_are_configurable(make_api: ApiFactory, form: str) -> None:
    api = make_api({"ada": 0, "bob": 0}, field_names=RENAMED_FIELDS, created_transaction=form, page_size=1)
    assert call(api, Operation.GET_USER).json() == {"tenant": APP, "a%sb": "ada", "ü": TRANSACTION["createdAt"]}
    body = json.dumps({"amount%": 7, "'why'": "grant"}).encode()
    created = api.call(CREATE, body=body).json()
    moved = {"amount%": 7, "'why'": "grant", "ü": TRANSACTION["createdAt"]}
    assert (
        created
        == {
            "id": {**moved, "{id}": "txn_1"},
            "balance": {**moved, "100%d": 7},
            "wrapped": {"/~": moved},
        }[form]
    )
    assert call(api, BALANCE).json() == {"100%d": 7}
    assert call(api, HISTORY).json() == {"a b": [moved]}
    assert list(call(api, USERS).json()) == ["%", "<next>"]
    sent = client_for(api).create_transaction(APP, "ada", delta=1, reason="grant")
    assert (sent.delta, client_for(api).get_balance(APP, "ada").balance) == (1, 8)
    assert [user.user_id for user in client_for(api).iter_users(APP)] == ["ada", "bob"]
    assert [item.delta for item in client_for(api).iter_transactions(APP, "ada")] == [1, 7]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", ["amount", "type"]),
        (b'{"delta":1,"reason":"grant"}', ["amount", "type", "delta", "reason"]),
        (b'{"amount":0,"type":"grant"}', ["amount"]),
        (b'{"amount":-1,"type":"grant"}', ["amount"]),
        (b'{"amount":1,"type":"gift"}', ["type"]),
    ],
)
def test_validation_details_use_configured_field_names(make_api: ApiFactory, body: bytes, expected: list[str]) -> None:
    api = make_api({"ada": 0}, field_names={"delta": "amount", "reason": "type"})
    details = api.call(CREATE, body=body).json()["error"]["details"]
    assert [item["field"] for item in details] == expected


# ---------------------------------------------------------------- row 23: browsers

ORIGIN_HEADER = (b"origin", b"https://app.example")
REQUEST_METHOD_HEADER = (b"access-control-request-method", b"GET")


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(("*",), "*"), ((), None), (("https://app.example",), "https://app.example"), (("https://b.example",), None)],
)
def test_cors_origins_are_configurable(make_api: ApiFactory, origins: tuple[str, ...], allowed: str | None) -> None:
    api = make_api({"ada": 5}, cors_origins=origins)
    for user in ("ada", "bob"):
        response = api.call(BALANCE, user, credentials=api.as_user("ada"), headers=[ORIGIN_HEADER])
        assert response.header("access-control-allow-origin") == allowed


def test_preflight_allows_methods_of_read_routes(make_api: ApiFactory) -> None:
    routes = {**DEFAULT_CONTRACT.routes, BALANCE: RouteTemplate("PUT", "/balance/{applicationId}/{userId}")}
    response = make_api(routes=routes).send(
        Request("OPTIONS", b"/balance/app-id/ada", [ORIGIN_HEADER, REQUEST_METHOD_HEADER], b"")
    )
    assert (response.status, response.header("access-control-allow-methods")) == (204, "GET, PUT")


# ---------------------------------------------------------------- row 24: ids


@pytest.mark.parametrize("max_length", [1, 8, 256])
def test_id_max_length_is_enforced(make_api: ApiFactory, max_length: int) -> None:
    api = make_api(id_max_length=max_length)
    app = "a" * max_length
    assert api.call(Operation.CREATE_USER, "ü" * max_length, app=app).status == 201
    for user, application, field in [("u" * (max_length + 1), app, "userId"), ("u", app + "a", "applicationId")]:
        response = api.call(Operation.CREATE_USER, user, app=application)
        assert (response.status, response.json()["error"]["details"][0]["field"]) == (400, field)


def test_id_pattern_must_match_whole_id(make_api: ApiFactory) -> None:
    api = make_api(id_pattern="[a-z-]+")
    assert api.call(Operation.CREATE_USER, "ada").status == 201
    assert len(call(api, USERS).json()["users"]) == 1  # the path of listUsers has no user id
    for user in ("Ada", "ada1", "ada\n", "1"):
        assert error_code(api.call(Operation.CREATE_USER, user)) == "validation_error"


# ---------------------------------------------------------------- completeness

TESTED_ELSEWHERE = {
    "trust": "tests/tokens/test_trusted_keys.py, tests/plugin/test_contract.py, tests/cli/test_contract.py",
    "amounts": "it has one value yet: tests/api/test_bad_input.py",
    "retry_after": "only a fault gives a 429: what OpenAPI says of it is in test_openapi.py",
}


def test_every_setting_is_tested_here_or_listed_as_tested_elsewhere() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    untested = [setting.name for setting in fields(Contract) if f"{setting.name}=" not in source]
    assert untested == list(TESTED_ELSEWHERE)


def test_operation_name_lists_every_operation() -> None:
    """Type checkers validate operation names against this type."""
    _, names, method_names = get_args(OperationName)
    assert get_args(names) == tuple(operation.value for operation in Operation)
    assert get_args(method_names) == tuple(METHOD_NAMES)
    assert all(callable(getattr(ServerClient, name)) for name in METHOD_NAMES)


def test_routes_accept_client_method_names() -> None:
    routes: dict[Any, RouteTemplate] = {**Contract().routes}
    routes["get_user"] = RouteTemplate("GET", "/x/{applicationId}/{userId}")
    contract = Contract(routes=routes)
    assert contract.routes[Operation.GET_USER].path == "/x/{applicationId}/{userId}"
    assert list(contract.routes) == list(Operation)


WRONG_TYPES: dict[str, tuple[dict[str, Any], str]] = {
    "mapping": ({"statuses": 5}, "statuses must be a mapping with string keys, not 5"),
    "keys": ({"field_names": {5: "x"}}, "field_names must be a mapping with string keys, not {5: 'x'}"),
    "None": ({"trust": None}, "trust must be a mapping with string keys, not None"),
    "route": (
        {"routes": {**Contract().routes, Operation.GET_USER: "GET /users"}},
        r"routes.getUser must be a RouteTemplate, such as RouteTemplate\(method='GET', path=.*\), not 'GET /users'",
    ),
    "header": (
        {"api_key": "X-Key"},
        r"api_key must be a CredentialHeader, such as CredentialHeader\('Authorization', 'Bearer'\), not 'X-Key'",
    ),
    "str": ({"id_pattern": 5}, "id_pattern must be a str, not 5"),
    "string as tuple": ({"applications": "app-id"}, "applications must be a tuple of strings, not 'app-id'"),
    "items": ({"cors_origins": (5,)}, r"cors_origins must be a tuple of strings, not \(5,\)"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_setting_of_the_wrong_type_raises_type_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        Contract(**settings)
