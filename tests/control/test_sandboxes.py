"""Sandboxes over the control plane: each has its own key, starts as it is told, and ends with what it has to say."""

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fake_credits.sandbox_options import SandboxOptions
from tests.control.conftest import LIMIT, Asker


def test_each_sandbox_has_a_key_and_a_token_of_its_own_that_work(asker: Asker) -> None:
    one, two = asker.make(users={"ada": 1}), asker.make(users={"ada": 2}, user_id="ada")
    assert one.info["api_key"] != two.info["api_key"]
    assert (one.spend(), one.spend()) == (201, 402)
    assert (one.balance(), two.balance()) == (0, 2)
    answer = asker.http.get(
        "/v1/applications/app-id/users/ada/balance", headers={"Authorization": f"Bearer {two.info['user_token']}"}
    )
    assert answer.json() == {"balance": 2}
    assert asker.http.get(two.info["jwks_url"]).json()["keys"]


def test_a_sandbox_starts_as_the_servers_first_does_except_for_what_is_given(asker: Asker) -> None:
    inherits, differs = asker.make(), asker.make(seed=8, users={}, clock="2030-01-01T00:00:00Z", application_id="shop")
    assert (inherits.info["seed"], inherits.balance()) == (7, 3)
    assert differs.info["seed"] == 8
    assert differs.ask("GET", "/users/ada").code == "user_not_found"
    assert differs.told("GET", "/clock") == {"mode": "frozen", "now": "2030-01-01T00:00:00.000Z", "parked": []}
    assert differs.told("PUT", "/users/eve", {})["application_id"] == "shop"


@pytest.mark.parametrize(
    ("started", "words", "balance"),
    [
        ({"users": {"ada": 3, "bob": 4}}, {"user_id": "ada", "balance": 7}, 7),
        ({"balance": 3, "user_id": "ada", "users": {}}, {"users": {"ada": 7, "bob": 4}}, 7),
        ({"balance": 3, "user_id": "ada", "users": {"bob": 4}}, {"balance": 0}, 0),
    ],
)
def test_a_balance_that_is_given_takes_the_place_of_the_one_that_the_server_started_with(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, started: Mapping[str, Any], words: dict[str, object], balance: int
) -> None:
    """Either word may say it, for the default user, and the other users stay."""
    base = asker.server.sandboxes.base_sandbox
    monkeypatch.setattr(base, "options", replace(base.options, **started))
    made = asker.make(**words)
    assert (made.balance("ada"), made.balance("bob")) == (balance, 4)


@pytest.mark.parametrize("clock", ["real", "frozen"])
def test_a_clock_is_real_or_stands_still_from_the_start(asker: Asker, clock: str) -> None:
    assert asker.make(clock=clock).told("GET", "/clock")["mode"] == clock


def test_faults_and_latency_hold_from_the_start_and_after_a_reset(asker: Asker) -> None:
    made = asker.make(faults=["outage", {"effect": "reset", "operation": "getUser", "nth": 1}], latency="fixed(0)")
    for _ in range(2):
        rules = made.told("GET", "/faults")["faults"]
        assert [each["rule"]["effect"] for each in rules] == ["status", "reset", "latency"]
        assert made.spend() == 503
        made.told("POST", "/reset")


def test_a_list_of_sandboxes_names_the_first_as_the_default(asker: Asker) -> None:
    made = asker.make()
    told = asker.told("GET", "/sandboxes")["sandboxes"]
    assert [(each["name"], each["is_default"]) for each in told] == [("s1", True), (made.info["name"], False)]
    assert asker.told("GET", "/sandboxes/default") == told[0] == asker.told("GET", "/sandboxes/s1")


def test_a_request_whose_credential_names_none_is_still_the_first_sandboxs(asker: Asker) -> None:
    asker.make()
    before = asker.told("GET", "/sandboxes/default")["exchanges"]
    asker.http.get("/v1/applications/app-id/users")
    assert asker.told("GET", "/sandboxes/default")["exchanges"] == before + 1


def test_reset_takes_a_sandbox_back_to_its_start_and_lets_go_what_a_gate_held(asker: Asker) -> None:
    made = asker.make(users={"ada": 5})
    made.spend()
    assert made.told("POST", "/reset")["exchanges"] == 1
    assert (made.balance(), made.told("GET", "/journal")["entries"]) == (5, [])


def test_a_closed_sandbox_is_gone_and_its_key_is_refused(asker: Asker) -> None:
    made = asker.make(users={"ada": 5})
    assert made.told("DELETE", "") == {"problems": [], "dropped": []}
    assert made.spend() == 401
    assert made.ask("GET", "").code == made.ask("DELETE", "").code == "sandbox_not_found"


def test_closing_tells_what_a_suite_would_fail_for_and_so_do_the_problems_before(asker: Asker) -> None:
    made = asker.make()
    made.told("POST", "/faults", {"effect": "reset", "nth": 1})
    (problem,) = made.told("GET", "/problems")["problems"]
    assert "reset#1" in problem
    assert "never fired" in problem
    assert made.told("DELETE", "")["problems"] == [problem]


def test_the_first_sandbox_cannot_be_closed(asker: Asker) -> None:
    for name in ("s1", "default"):
        assert asker.ask("DELETE", f"/sandboxes/{name}").code == "conflict"
    assert asker.told("GET", "/sandboxes/default")["name"] == "s1"


def test_a_server_has_so_many_sandboxes_and_no_more(asker: Asker) -> None:
    made = asker.make()
    for _ in range(LIMIT - 2):
        asker.make()
    got = asker.ask("POST", "/sandboxes", {})
    assert (got.status, got.code) == (409, "sandbox_limit")
    assert "--sandbox-limit" in got.body["error"]["message"]
    made.told("DELETE", "")
    asker.make()


def test_a_key_that_is_taken_is_a_conflict(asker: Asker) -> None:
    asker.make(api_key="same")
    got = asker.ask("POST", "/sandboxes", {"api_key": "same"})
    assert (got.status, got.code, got.details[0]["field"]) == (409, "conflict", "api_key")


@pytest.mark.parametrize(
    ("words", "field", "says"),
    [
        ({"balance": "5"}, "balance", "expected `int"),
        ({"balance": 5.5}, "balance", "expected `int"),
        ({"balance": True}, "balance", "expected `int"),
        ({"balance": -1}, "", "must be from 0"),
        (
            {"balance": 7, "users": {"user-id": 5}},
            "balance",
            "balance=7 and users={'user-id': 5} contradict each other",
        ),
        ({"users": {"ada": 2**53}}, "users[...]", "<="),
        ({"users": {"": 1}}, "", "must not be empty"),
        ({"users": ["ada"]}, "users", "expected"),
        ({"user_id": ""}, "user_id", "length >= 1"),
        ({"seed": 1.5}, "seed", "expected `int"),
        ({"clock": "noon"}, "clock", "no ISO 8601"),
        ({"clock": "2030-01-01T00:00:00"}, "clock", "no time zone"),
        ({"clock": "1900-01-01T00:00:00Z"}, "", "1970"),
        ({"auth_provider": "okta"}, "auth_provider", "choose one of plain"),
        ({"api_key": "a b"}, "api_key", "matching regex"),
        ({"faults": "flakey"}, "faults", "choose one of flaky"),
        ({"faults": "/etc/passwd"}, "faults", "choose one of flaky"),
        ({"faults": ["x.toml"]}, "faults", "choose one of flaky"),
        ({"faults": [{"effect": "burn"}]}, "", "effect is 'burn'"),
        ({"faults": 5}, "faults", "expected"),
        ({"latency": "soon"}, "", "latency is 'soon'"),
        ({"latency": 60_001}, "", "from 0 to 60000"),
        ({"gate_timeout_s": 0}, "gate_timeout_s", "> 0"),
        ({"balence": 5}, "balence", "unknown here (known: application_id, user_id, balance"),
        ({"contract": {}}, "contract", "unknown here"),
        ({"trust": {"https://x/": "/etc/passwd"}}, "trust", "unknown here"),
    ],
)
def test_a_word_that_cannot_be_is_refused_by_its_name(asker: Asker, words: object, field: str, says: str) -> None:
    got = asker.ask("POST", "/sandboxes", words)
    assert (got.status, got.code) == (400, "validation_error")
    assert got.details[0]["field"] == field
    assert says in got.body["error"]["message"]
    assert len(asker.server.sandboxes) == 1


def test_every_word_of_a_sandboxs_start_is_known_here_or_is_not_a_clients_to_say() -> None:
    """Contract and world are the server's, files are too, and delays over a socket are real."""
    from dataclasses import fields

    from fake_credits.control.schemas import MakeSandboxBody

    told = set(MakeSandboxBody.__struct_fields__)
    ours = {"contract", "trust", "world", "delays", "keep_headers"}
    assert {each.name for each in fields(SandboxOptions)} == told | ours


# ------------------------------------------------------------ users, tokens, journal


def test_a_users_balance_is_set_by_one_grant_or_consumption_and_read_without_an_exchange(asker: Asker) -> None:
    made = asker.make(users={})
    assert made.told("PUT", "/users/ada", {"balance": 10})["balance"] == 10
    assert made.told("PUT", "/users/ada", {"balance": 4})["balance"] == 4
    assert made.told("PUT", "/users/ada")["balance"] == 4
    assert made.told("PUT", "/users/ada", {"application_id": "shop"})["balance"] == 0
    told = made.told("GET", "/users/ada?application_id=shop")
    assert datetime.datetime.fromisoformat(told.pop("created_at"))
    assert told == {"application_id": "shop", "user_id": "ada", "balance": 0}
    assert made.told("GET", "/journal")["total"] == 0


@pytest.mark.parametrize("user", ["a%2Fb", "%C3%BC", "a%20b", "%25"])
def test_a_users_id_is_percent_decoded_once(asker: Asker, user: str) -> None:
    from urllib.parse import unquote

    made = asker.make()
    assert made.told("PUT", f"/users/{user}", {"balance": 1})["user_id"] == unquote(user)
    assert made.spend(user) == 201


@pytest.mark.parametrize("user", ["%2E%2E", "%0A", "x" * 300])
def test_an_id_that_the_api_could_not_have_is_refused(asker: Asker, user: str) -> None:
    assert asker.make().ask("PUT", f"/users/{user}", {}).code == "validation_error"


def test_a_balance_out_of_the_contracts_bounds_is_refused(asker: Asker) -> None:
    assert asker.make().ask("PUT", "/users/ada", {"balance": -1}).code == "validation_error"


def test_tokens_are_good_or_bad_as_asked_for(asker: Asker) -> None:
    made = asker.make(users={"ada": 5})

    def status(**words: object) -> tuple[int, str]:
        token = made.told("POST", "/tokens", {"user_id": "ada", **words})["token"]
        answer = asker.http.get(
            "/v1/applications/app-id/users/ada/balance", headers={"Authorization": f"Bearer {token}"}
        )
        return answer.status_code, answer.headers.get("x-fake-credits-cause", "")

    assert status() == status(clock="wall", claims={"role": "x"}, expires_in_s=5) == (200, "")
    assert status(bad="expired") == (401, "auth:expired")
    made.told("POST", "/clock/advance", {"days": 2})
    assert status(clock="wall")[0] == 401


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"bad": "x"}, "bad"),
        ({"clock": "x"}, "clock"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"claims": 1}, "claims"),
        ({"user_id": "\0"}, ""),
        ({"user_id": "x" * 300}, ""),
    ],
)
def test_a_token_that_cannot_be_is_refused(asker: Asker, words: object, field: str) -> None:
    got = asker.make().ask("POST", "/tokens", words)
    assert (got.code, got.details[0]["field"]) == ("validation_error", field)


def test_what_is_missing_is_told_by_name(asker: Asker) -> None:
    got = asker.make().ask("POST", "/clock/travel", {})
    assert got.details == [{"field": "to", "problem": "is missing"}]


def test_the_journal_is_queried_by_its_fields(asker: Asker) -> None:
    made = asker.make(users={"ada": 1, "bob": 1})
    made.told("POST", "/faults", {"effect": "status", "status": 503, "nth": 4, "phase": "after"})
    statuses = [made.spend(user) for user in ("ada", "ada", "bob", "bob")]
    assert statuses == [201, 402, 201, 503]

    def ordinals(query: str) -> list[int]:
        told = made.told("GET", f"/journal{query}")
        assert told["total"] == 4
        return [entry["ordinal"] for entry in told["entries"]]

    assert ordinals("") == [1, 2, 3, 4]
    assert ordinals("?user=bob") == [3, 4]
    assert ordinals("?operation=createUser") == []
    assert ordinals("?status=402") == [2]
    assert ordinals("?committed=true") == [1, 3]
    assert ordinals("?committed=false&user=ada") == [2]
    assert ordinals("?rule=status%231") == [4]
    assert ordinals("?after=2&delivered=true") == [3, 4]
    assert made.told("GET", "/journal/canonical")["canonical"].count("\n") == 4


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
        ("?user", ""),
        ("?user=%ff", ""),
    ],
)
def test_a_query_that_would_never_match_is_refused(asker: Asker, query: str, field: str) -> None:
    got = asker.make().ask("GET", f"/journal{query}")
    assert (got.status, got.code, got.details[0]["field"]) == (400, "validation_error", field)
