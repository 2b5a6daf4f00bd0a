"""What a new user tries first works, or raises an error that says what to write instead."""

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fake_credits import Call, Contract, FakeCredits
from fake_credits.call_patterns import Criteria
from fake_credits.client.control import ControlClient
from fake_credits.clock import Clock
from fake_credits.contract.loading import load_contract
from fake_credits.contract.types import METHOD_NAMES
from fake_credits.errors import FakeCreditsError, Forbidden
from fake_credits.faults import Reset, Rule, catalogue
from fake_credits.transports.shared_resources import SharedResources

LONG_NAME = "a" * 5000
MOMENT = datetime(2030, 1, 2, tzinfo=UTC)
MOMENT_TEXT = "2030-01-02T01:00+01:00"
BALANCE = "/v1/applications/app-id/users/user-id/balance"


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedResources]:
    resources = SharedResources()
    yield resources
    resources.close()


@pytest.fixture(scope="module")
def control(shared: SharedResources) -> Iterator[ControlClient]:
    with FakeCredits(shared=shared) as fake:
        server = shared.server(fake.sandbox.contract)
        with ControlClient(server.base_url, server.control_token) as client:
            yield client


# ------------------------------------------------------------ client method names as operations


def toml_rule(fake: FakeCredits, folder: Path) -> Rule:
    file = folder / "one.toml"
    file.write_text('[[rules]]\neffect = "reset"\noperation = "create_transaction"\n')
    return fake.faults.load(file)[0].rule


DECLARATIONS: dict[str, Callable[[FakeCredits, Path], Rule]] = {
    "Rule": lambda fake, _: Rule(Reset(), operation="create_transaction"),
    "add": lambda fake, _: fake.faults.add(Reset(), "create_transaction").rule,
    "JSON": lambda fake, _: fake.faults.add({"effect": "reset", "operation": "create_transaction"}).rule,
    "TOML": toml_rule,
    "hold": lambda fake, _: (fake.hold("create_transaction"), next(iter(fake.faults)).rule)[1],
    "narrowed": lambda fake, _: (
        fake.faults.add(Rule(Reset(), operation="createTransaction"), "create_transaction").rule
    ),
    "latency": lambda _, __: FakeCredits(latency={"create_transaction": 1}).sandbox.faults.rules[0].rule,
    "catalogue": lambda _, __: catalogue("create_transaction")[0],
}


@pytest.mark.parametrize("declare", DECLARATIONS.values(), ids=DECLARATIONS.keys())
def test_rule_accepts_the_name_of_a_method(
    tmp_path: Path, shared: SharedResources, declare: Callable[[FakeCredits, Path], Rule]
) -> None:
    with FakeCredits(shared=shared) as fake:
        assert declare(fake, tmp_path).operation == "createTransaction"


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_method_name_selects_its_operation(shared: SharedResources, name: Any) -> None:
    with FakeCredits(shared=shared, users={"ada": 5}) as fake:
        arguments = ("app-id",) if name == "list_users" else ("app-id", "ada")
        body = {"delta": -1, "reason": "consume"} if name == "create_transaction" else {}
        getattr(fake.server_client, name)(*arguments, **body)
        (entry,) = fake.journal.assert_called(name, times=1)
        assert fake.journal.entries(operation=name) == fake.journal.calls(name) == (entry,)
        assert fake.journal.wait_for(name, timeout_s=1) == (entry,)
        group: Any = "writes" if name in ("create_user", "create_transaction") else "reads"
        assert fake.journal.entries(operation=group) == fake.journal.calls(group) == (entry,)


def test_assert_order_accepts_method_and_group_names(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake:
        fake.server_client.create_user("app-id", "ada")
        fake.server_client.get_balance("app-id", "ada")
        assert len(fake.journal.assert_order("create_user", Call("get_balance"))) == 2
        assert len(fake.journal.assert_order("writes", "reads")) == 2
        fake.journal.assert_not_called("create_transaction")
        with pytest.raises(AssertionError, match=r"^writes\(user='ada'\) was called 1 time, not 2 times"):
            fake.journal.assert_called("writes", user="ada", times=2)


def test_control_plane_accepts_the_name_of_a_method(control: ControlClient) -> None:
    with control.make_sandbox(users={"ada": 5}, latency={"get_balance": 1}) as sandbox:
        assert sandbox.faults()[0].rule["operation"] == "getBalance"
        rule = sandbox.add_fault("reset", "create_transaction", optional=True)
        assert rule.rule["operation"] == "createTransaction"
        with httpx2.Client(base_url=sandbox.base_url, headers={"X-API-Key": sandbox.api_key}) as http:
            http.get("/v1/applications/app-id/users/ada/balance")
        for operation in ("get_balance", "reads", "*"):
            assert [entry.operation for entry in sandbox.journal(operation=operation)] == ["getBalance"]
        assert sandbox.journal(operation="writes") == ()


def test_contract_file_accepts_the_name_of_a_method(tmp_path: Path) -> None:
    file = tmp_path / "contract.toml"
    file.write_text('version = 1\n[routes]\nget_user = "GET /x/{applicationId}/{userId}"\n')
    assert load_contract(file).routes == {**Contract().routes, **load_contract(file).routes}
    assert {str(name): route.path for name, route in load_contract(file).routes.items()}["getUser"].startswith("/x/")


# ------------------------------------------------------------ times as ISO text


def frozen_at(fake: FakeCredits) -> object:
    fake.clock.freeze(MOMENT_TEXT)
    return fake.clock.now()


def travelled_to(fake: FakeCredits) -> object:
    fake.clock.freeze()
    fake.clock.travel(MOMENT_TEXT)
    return fake.clock.now()


def start_of_rule(fake: FakeCredits) -> object:
    during = fake.faults.add(Reset(), during=(MOMENT_TEXT, None)).rule.during
    return during and during[0]


def time_of_transaction(fake: FakeCredits) -> object:
    fake.clock.travel("2031-01-01T00:00:00Z")
    return fake.add_transactions("ada", [{"delta": 1, "created_at": MOMENT_TEXT}])[0].created_at


TIMES: dict[str, Callable[[FakeCredits], object]] = {
    "option": lambda _: FakeCredits(clock=MOMENT_TEXT).clock.now(),
    "freeze": frozen_at,
    "travel": travelled_to,
    "during": start_of_rule,
    "created_at": time_of_transaction,
}


@pytest.mark.parametrize("use", TIMES.values(), ids=TIMES.keys())
def test_time_can_be_an_iso_string(shared: SharedResources, use: Callable[[FakeCredits], object]) -> None:
    with FakeCredits(shared=shared) as fake:
        assert use(fake) == MOMENT


def test_control_client_accepts_datetimes_and_iso_strings(control: ControlClient) -> None:
    for clock in (MOMENT, MOMENT_TEXT):
        with control.make_sandbox(clock=clock) as sandbox:
            assert sandbox.clock().now == MOMENT
            assert sandbox.travel("2030-02-01T00:00:00Z").now == datetime(2030, 2, 1, tzinfo=UTC)
            assert sandbox.freeze("2030-03-01 00:00+00:00").now == datetime(2030, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("moment", ["2030-01-02", "2030-01-02T00:00:00", datetime(2030, 1, 2)])
def test_time_without_a_time_zone_is_rejected_with_an_example(moment: Any) -> None:
    for call in (Clock().freeze, Clock().travel):
        with pytest.raises(ValueError, match=r"has no time zone: add one, as in (2030-01-01T0|datetime\(2030)"):
            call(moment)


@pytest.mark.parametrize("moment", [5, None, b"2030"])
def test_time_of_another_type_is_rejected(moment: Any) -> None:
    with pytest.raises(TypeError, match=r"a time must be a datetime with a time zone, or an ISO 8601 string such as "):
        Clock().travel(moment)


# ------------------------------------------------------------ the wrong credential

MESSAGES: dict[str, tuple[Callable[[FakeCredits], dict[str, str]], str, str]] = {
    "API key as token": (
        lambda fake: {"Authorization": f"Bearer {fake.api_key}"},
        "invalid_token",
        "this is an API key, so send it as 'X-API-Key: …'",
    ),
    "token as API key": (
        lambda fake: {"X-API-Key": fake.token()},
        "invalid_api_key",
        "this is a user's token, so send it as 'Authorization: Bearer …'",
    ),
    "API key without a scheme": (
        lambda fake: {"Authorization": fake.api_key},
        "missing_credentials",
        "send 'X-API-Key: …' (server) or 'Authorization: Bearer …' (user)",
    ),
    "unknown API key": (lambda _: {"X-API-Key": "key"}, "invalid_api_key", "unknown API key"),
}


@pytest.mark.parametrize("api_key", ["", "my-constant-key"])
@pytest.mark.parametrize(("headers", "code", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_error_for_a_credential_in_the_wrong_place_says_where_it_goes(
    shared: SharedResources,
    headers: Callable[[FakeCredits], dict[str, str]],
    code: str,
    message: str,
    api_key: str,
) -> None:
    """The request is recorded in the sandbox that the credential belongs to, not in the server's default one."""
    with FakeCredits(shared=shared, api_key=api_key, balance=5) as fake, FakeCredits(shared=shared) as other:
        with httpx2.Client(transport=fake.transport("httpx2"), base_url="http://credits") as client:
            error = client.get(BALANCE, headers=headers(fake)).json()["error"]
        assert error["code"] == code
        assert error["message"].endswith(message)
        base_url = fake.base_url
        other.serve()
        if "scheme" not in message and "unknown" not in message and "server" not in message:
            live_error = httpx2.get(base_url + BALANCE, headers=headers(fake)).json()["error"]
            assert live_error["message"].endswith(message)
            assert (len(fake.journal), len(other.journal)) == (2, 0)


def test_error_for_a_foreign_generated_key_sent_as_a_token_says_where_it_goes(shared: SharedResources) -> None:
    """Generated keys have a known prefix, so the server's default sandbox recognizes them too."""
    with FakeCredits(shared=shared) as fake, httpx2.Client(transport=fake.transport("httpx2")) as client:
        response = client.get(f"http://credits{BALANCE}", headers={"Authorization": "Bearer fake_credits_key_other"})
        assert response.json()["error"]["message"].endswith("so send it as 'X-API-Key: …'")


def test_contract_with_both_credentials_in_the_same_header_gives_no_hint() -> None:
    """In that case, only the number of segments distinguishes a token from an API key."""
    header = Contract().user_token
    with FakeCredits(contract=Contract(api_key=header)) as fake:
        with httpx2.Client(transport=fake.transport("httpx2")) as client:
            response = client.get(f"http://credits{BALANCE}", headers={"Authorization": f"Bearer {fake.api_key}x"})
        assert response.json()["error"]["message"] == "unknown API key"


def test_forbidden_error_names_the_client_to_use(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, users={"ada": 1}) as fake:
        with pytest.raises(Forbidden, match=r'fake_credits\.user_client\("ada"\) sends that user\'s token'):
            fake.user_client().get_balance("ada")
        assert fake.user_client("ada").get_balance("ada").balance == 1


# ------------------------------------------------------------ values of the wrong type

WRONG_VALUES: tuple[Any, ...] = (5, 1.5, None, True, b"x", "", "a\0b", LONG_NAME, [], [5], {}, {"a": 5}, object(), int)
_BLOCKING = {"serve", "close", "asgi_app", "base_url", "wait_for", "async_wait_for"}
_NOT_FOR_TESTS = {"watch", "unwatch", "write", "replace", "next_ordinal", "schedule", "move_to"}


def wrong_calls(fake: FakeCredits) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield calls to every public method, with a wrong value for each argument in turn."""
    for owner in (fake, fake.journal, fake.clock, fake.faults):
        for name, method in inspect.getmembers(owner, inspect.ismethod):
            if name.startswith("_") or name in _BLOCKING | _NOT_FOR_TESTS:
                continue
            parameters = inspect.signature(method).parameters.values()
            keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
            keywords += Criteria.__annotations__ if "criteria" in [each.name for each in parameters] else ()
            positional = [each for each in parameters if each.kind <= each.VAR_POSITIONAL]
            required = ["ada" for each in positional if each.default is each.empty]
            for value in WRONG_VALUES:
                for before in range(len(positional)):
                    yield f"{name}({'…, ' * before}{value!r:.20})", _call(method, ["ada"] * before + [value], {})
                for keyword in keywords:
                    yield f"{name}({keyword}={value!r:.20})", _call(method, required, {keyword: value})


def _call(method: Callable[..., object], args: list[Any], kwargs: dict[str, Any]) -> Callable[[], object]:
    return lambda: method(*args, **kwargs)


def test_value_of_the_wrong_type_raises_no_unexpected_error() -> None:
    """The error is a FakeCreditsError, an AssertionError, or a TypeError or ValueError with a message."""
    unexpected: list[str] = []
    with FakeCredits(users={"ada": 5}) as fake:
        for label, call in wrong_calls(fake):
            try:
                result = call()
                if inspect.iscoroutine(result):
                    result.close()
            except (FakeCreditsError, AssertionError):
                pass
            except (TypeError, ValueError) as error:
                if not str(error):
                    unexpected.append(f"{label}: {error!r}")
            except Exception as error:  # noqa: BLE001 - collected
                unexpected.append(f"{label}: {error!r:.120}")
        assert fake.sandbox.bugs == []
    assert unexpected == []


@pytest.mark.parametrize("name", [LONG_NAME, f"{LONG_NAME}.toml", f"{LONG_NAME}.json", "a\0b", "a\0.toml", "/"])
@pytest.mark.parametrize("option", ["world", "contract", "faults", "trust"])
def test_impossible_file_name_raises_value_error_naming_the_option(option: str, name: str) -> None:
    value: Any = {"https://issuer.example/": name} if option == "trust" else name
    options: Any = {option: value}
    with pytest.raises(ValueError, match=option if option != "faults" else "faults|preset"):
        FakeCredits(**options)


def test_long_unknown_world_name_is_shortened_in_the_error(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, pytest.raises(ValueError, match="unknown world 'aaaa") as caught:
        fake.load_world(LONG_NAME)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("call", [5, None, ["getUser"], b"getUser"])
def test_assert_order_rejects_other_argument_types(shared: SharedResources, call: Any) -> None:
    with (
        FakeCredits(shared=shared) as fake,
        pytest.raises(TypeError, match=r"assert_order takes operations and Call\(...\) patterns as arguments, not "),
    ):
        fake.journal.assert_order(call, "getUser")
