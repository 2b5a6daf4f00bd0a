"""Sandboxes via the control plane: creation, isolation, reset, problems, users, tokens and journals."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_credits.clock import wall_clock_ms
from fake_credits.sandbox_options import SandboxOptions
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import Minter
from tests.control.conftest import SANDBOX_LIMIT, ControlSession


def test_sandboxes_have_separate_keys_tokens_and_balances(control: ControlSession) -> None:
    first, second = control.create_sandbox(users={"ada": 1}), control.create_sandbox(users={"ada": 2}, user_id="ada")
    assert first.info["api_key"] != second.info["api_key"]
    assert (first.spend(), first.spend()) == (201, 402)
    assert (first.balance(), second.balance()) == (0, 2)
    response = control.http.get(
        "/v1/applications/app-id/users/ada/balance", headers={"Authorization": f"Bearer {second.info['user_token']}"}
    )
    assert response.json() == {"balance": 2}
    assert control.http.get(second.info["jwks_url"]).json()["keys"]


def test_new_sandbox_inherits_server_options_unless_overridden(control: ControlSession) -> None:
    default, custom = (
        control.create_sandbox(),
        control.create_sandbox(seed=8, users={}, clock="2030-01-01T00:00:00Z", application_id="shop"),
    )
    assert (default.info["seed"], default.balance()) == (7, 3)
    assert custom.info["seed"] == 8
    assert custom.request("GET", "/users/ada").code == "user_not_found"
    assert custom.request_json("GET", "/clock") == {"mode": "frozen", "now": "2030-01-01T00:00:00.000Z", "parked": []}
    assert custom.request_json("PUT", "/users/eve", {})["application_id"] == "shop"


@pytest.mark.parametrize(
    ("server_options", "options", "balance"),
    [
        ({"users": {"ada": 3, "bob": 4}}, {"user_id": "ada", "balance": 7}, 7),
        ({"balance": 3, "user_id": "ada", "users": {}}, {"users": {"ada": 7, "bob": 4}}, 7),
        ({"balance": 3, "user_id": "ada", "users": {"bob": 4}}, {"balance": 0}, 0),
    ],
)
def test_balance_option_overrides_the_servers_initial_balance(
    control: ControlSession,
    monkeypatch: pytest.MonkeyPatch,
    server_options: Mapping[str, Any],
    options: dict[str, object],
    balance: int,
) -> None:
    """Both ``balance`` and ``users`` override the default user's balance; other users keep theirs."""
    base = control.server.sandboxes.base_sandbox
    monkeypatch.setattr(base, "options", replace(base.options, **server_options))
    sandbox = control.create_sandbox(**options)
    assert (sandbox.balance("ada"), sandbox.balance("bob")) == (balance, 4)


def test_bound_user_of_a_foreign_issuer_reaches_the_sandbox(
    control: ControlSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A real tenant's tokens do not name a sandbox, so users are bound to sandboxes instead."""
    tenant, url = Minter(SigningKeys(), issuer_url="https://dev.example/"), "https://dev.example/"
    (tmp_path / "jwks.json").write_text(json.dumps(tenant.keys.jwks(("ES256",))))
    base = control.server.sandboxes.base_sandbox
    monkeypatch.setattr(base, "options", replace(base.options, trust={url: tmp_path / "jwks.json"}))
    first, second = control.create_sandbox(users={"ada": 1}), control.create_sandbox(users={"bob": 2})
    for sandbox, user in ((first, "ada"), (second, "bob")):
        assert sandbox.request_json("POST", "/bindings", {"issuer": url, "user_id": user}) == {
            "issuer": url,
            "user_id": user,
        }
        token = tenant.mint(user, now_ms=wall_clock_ms())
        path, headers = f"/v1/applications/app-id/users/{user}/balance", {"Authorization": f"Bearer {token}"}
        assert control.http.get(path, headers=headers).json() == {"balance": sandbox.balance(user)}
    taken = second.request("POST", "/bindings", {"issuer": url, "user_id": "ada"})
    assert (taken.code, taken.details[0]["problem"]) == (
        "validation_error",
        f"user 'ada' from '{url}' is bound to another sandbox",
    )


def test_untrusted_issuer_cannot_be_bound(control: ControlSession) -> None:
    response = control.create_sandbox().request("POST", "/bindings", {"issuer": "https://x/", "user_id": "ada"})
    assert response.code == "validation_error"
    assert "'https://x/' is not trusted" in response.details[0]["problem"]


@pytest.mark.parametrize("clock", ["real", "frozen"])
def test_clock_option_sets_the_clock_mode(control: ControlSession, clock: str) -> None:
    assert control.create_sandbox(clock=clock).request_json("GET", "/clock")["mode"] == clock


def test_fault_and_latency_options_survive_a_reset(control: ControlSession) -> None:
    sandbox = control.create_sandbox(
        faults=["outage", {"effect": "reset", "operation": "getUser", "nth": 1}], latency="fixed(0)"
    )
    for _ in range(2):
        rules = sandbox.request_json("GET", "/faults")["faults"]
        assert [fault["rule"]["effect"] for fault in rules] == ["status", "reset", "latency"]
        assert sandbox.spend() == 503
        sandbox.request_json("POST", "/reset")


def test_first_sandbox_is_listed_as_the_default(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    listed = control.request_json("GET", "/sandboxes")["sandboxes"]
    assert [(item["name"], item["is_default"]) for item in listed] == [("s1", True), (sandbox.info["name"], False)]
    assert (
        control.request_json("GET", "/sandboxes/default") == listed[0] == control.request_json("GET", "/sandboxes/s1")
    )


def test_unauthenticated_request_is_journaled_in_the_default_sandbox(control: ControlSession) -> None:
    control.create_sandbox()
    before = control.request_json("GET", "/sandboxes/default")["exchanges"]
    control.http.get("/v1/applications/app-id/users")
    assert control.request_json("GET", "/sandboxes/default")["exchanges"] == before + 1


def test_reset_restores_the_initial_state(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5})
    sandbox.spend()
    sandbox.request_json("POST", "/faults", {"effect": "status", "status": 503, "at": 1})
    for _ in range(2):  # the exchange count starts over, and so do the journal's ordinals
        assert sandbox.request_json("POST", "/reset")["exchanges"] == 0
        assert (sandbox.balance(), sandbox.request_json("GET", "/journal")["entries"]) == (5, [])
        sandbox.request_json("POST", "/faults", {"effect": "status", "status": 503, "at": 1})
        assert (sandbox.spend(), sandbox.spend()) == (503, 201)
        journal = sandbox.request_json("GET", "/journal")
        assert [entry["ordinal"] for entry in journal["entries"]] == [1, 2]
        assert (journal["total"], sandbox.request_json("GET", "")["exchanges"]) == (2, 2)


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/faults", {"effect": "reset", "nth": 2}, "the scripted rule 'reset#1' never fired (no calls matched it)"),
        ("/faults", {"effect": "reset", "probability": 1}, "the rule 'reset#1' never fired (no calls matched it)"),
        ("/faults", {"script": [503]}, "the scripted rule 'script#1' has entries left: 503"),
        ("/gates", {"name": "door"}, "the gate 'door' held no calls (no calls matched it)"),
    ],
)
def test_reset_returns_and_clears_the_problems(
    control: ControlSession, path: str, body: dict[str, object], problem: str
) -> None:
    """They are returned only once: the next test starts without them."""
    sandbox = control.create_sandbox()
    sandbox.request_json("POST", path, body)
    (text,) = sandbox.request_json("POST", "/reset")["problems"]
    assert text.startswith(problem)
    assert sandbox.request_json("GET", "/problems")["problems"] == []
    sandbox.request_json("POST", path, {**body, "optional": True})
    assert sandbox.request_json("POST", "/reset")["problems"] == []


def test_journal_query_that_no_exchange_can_match_is_rejected(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    for query, problem in (
        ("rule=nope", "no call in this sandbox can have the rule 'nope' (possible: none)"),
        ("operation=create_transaction&status=200", "no createTransaction in this sandbox can have the status 200"),
        ("status=299", "no call in this sandbox can have the status 299"),
        ("status=1", "status must be from 100 to 599, or 0 for a call without a response, not 1"),
        ("operation=listUsers&user=ada", "omit user='ada': it is never set for listUsers"),
    ):
        response = sandbox.request("GET", f"/journal?{query}")
        assert (response.status, response.code) == (400, "validation_error")
        assert response.body["error"]["message"].startswith(problem)
    sandbox.request_json("POST", "/faults", {"effect": "status", "status": 418, "name": "nope", "optional": True})
    for query in ("rule=nope", "status=418", "status=0"):
        assert sandbox.request_json("GET", f"/journal?{query}") == {"total": 0, "entries": [], "dropped": 0}


def test_unused_preset_and_scenario_rules_are_not_problems(control: ControlSession) -> None:
    """These rules set the conditions of a test, so they need not fire."""
    sandbox = control.create_sandbox(faults="outage", latency=0)
    sandbox.request_json("POST", "/faults/load", {"preset": "slow"})
    sandbox.request_json("POST", "/faults/load", {"rules": [{"effect": "reset", "nth": 3}]})
    assert sandbox.request_json("POST", "/reset")["problems"] == []


def test_request_that_matches_no_operation_is_a_problem(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5})
    path = "/v1/applications/app-id/users/ada/balance"
    headers = {"X-API-Key": sandbox.info["api_key"]}
    for target in (f"/api{path}", f"/api{path}", "/favicon.ico", "/_fake/nope"):
        assert control.http.get(target, headers=headers).status_code == 404
    (problem,) = sandbox.request_json("POST", "/reset")["problems"]
    assert problem == (
        f"a request matched no operation: GET /api{path} does not exist; "
        "it ends with the path of getBalance, so your base URL has the extra prefix /api"
    )


def test_closed_sandbox_is_gone_and_its_key_is_rejected(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5})
    assert sandbox.request_json("DELETE", "") == {"problems": [], "dropped": []}
    assert sandbox.spend() == 401
    assert sandbox.request("GET", "").code == sandbox.request("DELETE", "").code == "sandbox_not_found"


def test_close_returns_the_same_problems_as_the_problems_route(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    sandbox.request_json("POST", "/faults", {"effect": "reset", "nth": 1})
    (problem,) = sandbox.request_json("GET", "/problems")["problems"]
    assert "reset#1" in problem
    assert "never fired" in problem
    assert sandbox.request_json("DELETE", "")["problems"] == [problem]


def test_default_sandbox_cannot_be_closed(control: ControlSession) -> None:
    for name in ("s1", "default"):
        assert control.request("DELETE", f"/sandboxes/{name}").code == "conflict"
    assert control.request_json("GET", "/sandboxes/default")["name"] == "s1"


def test_sandbox_limit_is_enforced(control: ControlSession) -> None:
    sandbox = control.create_sandbox()
    for _ in range(SANDBOX_LIMIT - 2):
        control.create_sandbox()
    response = control.request("POST", "/sandboxes", {})
    assert (response.status, response.code) == (409, "sandbox_limit")
    assert "--sandbox-limit" in response.body["error"]["message"]
    sandbox.request_json("DELETE", "")
    control.create_sandbox()


def test_duplicate_api_key_is_a_conflict(control: ControlSession) -> None:
    control.create_sandbox(api_key="same")
    response = control.request("POST", "/sandboxes", {"api_key": "same"})
    assert (response.status, response.code, response.details[0]["field"]) == (409, "conflict", "api_key")


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"balance": "5"}, "balance", 'must be an integer or null, got "5"'),
        ({"balance": 5.5}, "balance", "must be an integer or null, got 5.5"),
        ({"balance": True}, "balance", "must be an integer or null, got true"),
        ({"balance": -1}, "", "must be from 0"),
        (
            {"balance": 7, "users": {"user-id": 5}},
            "balance",
            "balance=7 and users={'user-id': 5} contradict each other",
        ),
        ({"users": {"ada": 2**53}}, "", "must be from 0 to 9007199254740991"),
        (
            {"users": {"": 1}},
            "users",
            'must be an object that maps user ids to balances, such as {"ada": 100}, got {"": 1}',
        ),
        ({"users": ["ada"]}, "users", 'must be an object or null, got ["ada"]'),
        ({"users": {"ada": None}}, "users[...]", "must be an integer"),
        ({"user_id": ""}, "user_id", "must be a string other than"),
        ({"seed": 1.5}, "seed", "must be an integer or null, got 1.5"),
        ({"clock": "noon"}, "clock", 'must be "real", "frozen", or an ISO 8601 date'),
        ({"clock": "2030-01-01T00:00:00"}, "clock", "with a time zone"),
        ({"clock": "1900-01-01T00:00:00Z"}, "clock", "not before 1970"),
        ({"auth_provider": "okta"}, "auth_provider", "must be one of plain"),
        ({"api_key": "a b"}, "api_key", "must be 1 to 256 visible ASCII characters"),
        ({"faults": "flakey"}, "faults", "must be one of flaky"),
        ({"faults": "/etc/passwd"}, "faults", "must be one of flaky"),
        ({"faults": ["x.toml"]}, "faults", "must be one of flaky"),
        ({"faults": [{"effect": "burn"}]}, "", "effect is 'burn'"),
        ({"faults": 5}, "faults", "must be a string or an object or an array or null, got 5"),
        ({"latency": "soon"}, "", "latency is 'soon'"),
        ({"latency": 60_001}, "", "from 0 to 60000"),
        ({"gate_timeout_s": 0}, "gate_timeout_s", "from 0.001 to 3600"),
        ({"balence": 5}, "balence", "is not allowed here; allowed: application_id, user_id, balance"),
        ({"contract": {}}, "contract", "is not allowed here"),
        ({"trust": {"https://x/": "/etc/passwd"}}, "trust", "is not allowed here"),
    ],
)
def test_invalid_sandbox_option_is_rejected_with_its_field(
    control: ControlSession, options: object, field: str, message: str
) -> None:
    response = control.request("POST", "/sandboxes", options)
    assert (response.status, response.code) == (400, "validation_error")
    assert response.details[0]["field"] == field
    assert message in response.body["error"]["message"]
    assert len(control.server.sandboxes) == 1


def test_every_sandbox_option_is_accepted_or_reserved_for_the_server() -> None:
    """Clients can't choose the contract, the world or files, and delays over a socket are real."""
    from dataclasses import fields

    from fake_credits.control_schemas import MakeSandboxBody

    accepted = set(MakeSandboxBody.__struct_fields__)
    server_only = {"contract", "trust", "world", "delays", "keep_headers"}
    assert {option.name for option in fields(SandboxOptions)} == accepted | server_only


# ------------------------------------------------------------ users, tokens, journal


def test_user_balance_is_set_and_read_without_journal_entries(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={})
    assert sandbox.request_json("PUT", "/users/ada", {"balance": 10})["balance"] == 10
    assert sandbox.request_json("PUT", "/users/ada", {"balance": 4})["balance"] == 4
    assert sandbox.request_json("PUT", "/users/ada")["balance"] == 4
    assert sandbox.request_json("PUT", "/users/ada", {"application_id": "shop"})["balance"] == 0
    user = sandbox.request_json("GET", "/users/ada?application_id=shop")
    assert datetime.datetime.fromisoformat(user.pop("created_at"))
    assert user == {"application_id": "shop", "user_id": "ada", "balance": 0}
    assert sandbox.request_json("GET", "/journal")["total"] == 0


@pytest.mark.parametrize("user", ["a%2Fb", "%C3%BC", "a%20b", "%25"])
def test_user_id_in_path_is_percent_decoded_once(control: ControlSession, user: str) -> None:
    from urllib.parse import unquote

    sandbox = control.create_sandbox()
    assert sandbox.request_json("PUT", f"/users/{user}", {"balance": 1})["user_id"] == unquote(user)
    assert sandbox.spend(user) == 201


@pytest.mark.parametrize("user", ["%2E%2E", "%0A", "x" * 300])
def test_invalid_user_id_is_rejected(control: ControlSession, user: str) -> None:
    assert control.create_sandbox().request("PUT", f"/users/{user}", {}).code == "validation_error"


def test_balance_out_of_bounds_is_rejected(control: ControlSession) -> None:
    assert control.create_sandbox().request("PUT", "/users/ada", {"balance": -1}).code == "validation_error"


def test_token_options_decide_whether_the_token_is_accepted(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 5})

    def status(**options: object) -> tuple[int, str]:
        token = sandbox.request_json("POST", "/tokens", {"user_id": "ada", **options})["token"]
        response = control.http.get(
            "/v1/applications/app-id/users/ada/balance", headers={"Authorization": f"Bearer {token}"}
        )
        return response.status_code, response.headers.get("x-fake-credits-cause", "")

    assert status() == status(clock="wall", claims={"role": "x"}, expires_in_s=5) == (200, "")
    assert status(bad="expired") == (401, "auth:expired")
    sandbox.request_json("POST", "/clock/advance", {"days": 2})
    assert status(clock="wall")[0] == 401


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"bad": "x"}, "bad"),
        ({"clock": "x"}, "clock"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"claims": 1}, "claims"),
        ({"user_id": "\0"}, ""),
        ({"user_id": "x" * 300}, ""),
    ],
)
def test_invalid_token_option_is_rejected_with_its_field(control: ControlSession, options: object, field: str) -> None:
    response = control.create_sandbox().request("POST", "/tokens", options)
    assert (response.code, response.details[0]["field"]) == ("validation_error", field)


def test_missing_required_field_is_named(control: ControlSession) -> None:
    response = control.create_sandbox().request("POST", "/clock/travel", {})
    assert response.details == [{"field": "to", "problem": "is missing"}]


def test_journal_can_be_filtered_by_field(control: ControlSession) -> None:
    sandbox = control.create_sandbox(users={"ada": 1, "bob": 1})
    sandbox.request_json("POST", "/faults", {"effect": "status", "status": 503, "nth": 4, "phase": "after"})
    statuses = [sandbox.spend(user) for user in ("ada", "ada", "bob", "bob")]
    assert statuses == [201, 402, 201, 503]

    def ordinals(query: str) -> list[int]:
        journal = sandbox.request_json("GET", f"/journal{query}")
        assert journal["total"] == 4
        return [entry["ordinal"] for entry in journal["entries"]]

    assert ordinals("") == [1, 2, 3, 4]
    assert ordinals("?user=bob") == [3, 4]
    assert ordinals("?operation=createUser") == []
    assert ordinals("?status=402") == [2]
    assert ordinals("?committed=true") == [1, 3]
    assert ordinals("?committed=false&user=ada") == [2]
    assert ordinals("?rule=status%231") == [4]
    assert ordinals("?after=2&delivered=true") == [3, 4]
    assert sandbox.request_json("GET", "/journal/canonical")["canonical"].count("\n") == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?operation=drop", "operation"),
        ("?operation=", "operation"),
        ("?user=", "user"),
        ("?status=x", "status"),
        ("?status=600", "status"),
        ("?after=-1", "after"),
        ("?committed=maybe", "committed"),
        ("?who=ada", "who"),
        ("?user=a&user=b", ""),
        ("?user", "user"),
    ],
)
def test_invalid_journal_query_is_rejected_with_its_field(control: ControlSession, query: str, field: str) -> None:
    response = control.create_sandbox().request("GET", f"/journal{query}")
    assert (response.status, response.code, response.details[0]["field"]) == (400, "validation_error", field)
