"""Test the sandbox and its registry: options, balances, reset, credentials and selection by credential."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_credits.contract import Contract
from fake_credits.errors import ApplicationNotFound, InvalidApiKey, InvalidToken, TokenExpired, UserNotFound
from fake_credits.fake import FakeCredits
from fake_credits.faults import Close, HoldAtGate, Reset, Rule, StaleRead
from fake_credits.ledger import LedgerInconsistency
from fake_credits.models import Reason
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import MintOptions, SandboxOptions
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.credentials import Credential
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import SANDBOX_CLAIM

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = SigningKeys()

InvalidOptions = tuple[dict[str, Any], type[Exception], str]

INVALID_OPTIONS: dict[str, InvalidOptions] = {
    "unknown auth provider": (
        {"auth_provider": "clark"},
        ValueError,
        "has auth_provider='clark': it must be one of plain, clerk, auth0",
    ),
    "naive clock": (
        {"clock": datetime(2026, 3, 1)},
        ValueError,
        "has an invalid clock: .* has no time zone: add one, as in datetime",
    ),
    "unknown clock": ({"clock": "stopped"}, ValueError, 'it must be "real", "frozen", or an aware datetime'),
    "empty user id": ({"user_id": "", "balance": 1}, ValueError, "has user_id='': it must be a string other than"),
    "dots as user id": ({"users": {"..": 1}}, ValueError, "user id"),
    "too long user id": ({"users": {"u" * 257: 1}}, ValueError, "user id"),
    "control character in user id": ({"users": {"a\x00b": 1}}, ValueError, "user id"),
    "lone surrogate in user id": ({"users": {"a\ud800b": 1}}, ValueError, "user id"),
    "non-string user id": ({"users": {7: 1}}, TypeError, "it must be a mapping of user ids to integers"),
    "invalid default user id": ({"user_id": "."}, ValueError, "has user_id='.': it must be a string other than"),
    "invalid application id": ({"application_id": ".."}, ValueError, "has application_id='..': it must be"),
    "non-string application id": (
        {"application_id": None},
        TypeError,
        "application_id=None: it must be a string other than",
    ),
    "bool balance": ({"balance": True}, TypeError, "has balance=True: it must be an integer"),
    "float balance": ({"users": {"ada": 1.5}}, TypeError, "mapping of user ids to integers"),
    "balance below floor": ({"balance": -1}, ValueError, "'user-id' must be from 0 to"),
    "balance above ceiling": ({"balance": 2**53}, ValueError, "from 0 to 9007199254740991"),
    "balance above largest delta": (
        {"balance": 2**53, "contract": Contract(ceiling=None)},
        ValueError,
        "to 9007199254740991",
    ),
}


def new_sandbox(name: str = "s1", **options: Any) -> Sandbox:
    return Sandbox(SandboxOptions(**options), KEYS, name)


def deltas(sandbox: Sandbox, user_id: str = "user-id") -> list[int]:
    return [row.delta for row in sandbox.ledger.get_account("app-id", user_id).entries()]


@pytest.mark.parametrize("invalid_options", INVALID_OPTIONS.values(), ids=INVALID_OPTIONS.keys())
def test_invalid_option_is_rejected(invalid_options: InvalidOptions) -> None:
    options, error, match = invalid_options
    with pytest.raises(error, match=match):
        new_sandbox(**options)


def test_initial_balances_are_one_grant_per_user() -> None:
    sandbox = new_sandbox(balance=5, users={"ada": 7, "bob": 0})
    assert [deltas(sandbox), deltas(sandbox, "ada"), deltas(sandbox, "bob")] == [[5], [7], []]
    assert len(sandbox.journal) == 0


def test_balance_and_users_may_agree_on_default_user() -> None:
    sandbox = new_sandbox(balance=5, users={"user-id": 5})
    assert deltas(sandbox) == [5]
    assert deltas(new_sandbox(balance=5, users={"user-id": 7}, user_id="ada")) == [7]


def test_default_user_is_not_created_without_balance() -> None:
    with pytest.raises(UserNotFound):
        new_sandbox().ledger.get_account("app-id", "user-id")


def test_initial_balance_may_be_negative_with_overdraft() -> None:
    sandbox = new_sandbox(contract=Contract(floor=-10), balance=-10)
    assert [(row.delta, row.reason) for row in sandbox.ledger.get_account("app-id", "user-id").entries()] == [
        (-10, Reason.CONSUME)
    ]


def test_set_balance_appends_one_transaction_per_change() -> None:
    sandbox = new_sandbox()
    for balance in (100, 90, 90, None, 0):
        sandbox.set_balance("user-id", balance)
    assert deltas(sandbox) == [100, -10, -90]


def test_rejected_set_balance_creates_no_user() -> None:
    sandbox = new_sandbox()
    with pytest.raises(ValueError, match="from 0 to"):
        sandbox.set_balance("ada", -1)
    assert sandbox.ledger.find_account("app-id", "ada") is None


def test_set_balance_accepts_other_valid_application() -> None:
    sandbox = new_sandbox()
    assert sandbox.set_balance("ada", 3, application_id="other").application_id == "other"
    with pytest.raises(ValueError, match="application id"):
        sandbox.set_balance("ada", 3, application_id="x" * 257)


def test_set_balance_rejects_unlisted_application() -> None:
    with pytest.raises(ApplicationNotFound, match="known: a"):
        new_sandbox(contract=Contract(applications=("a",))).set_balance("ada", 1)


def test_reset_restores_initial_state_and_keeps_credentials() -> None:
    sandbox = new_sandbox(balance=5, clock=NOON)
    key, token = sandbox.api_key, sandbox.token("user-id")
    sandbox.set_balance("user-id", 50)
    sandbox.set_balance("ada", 1)
    sandbox.clock.advance(days=1)
    sandbox.reset()
    assert deltas(sandbox) == [5]
    assert sandbox.ledger.find_account("app-id", "ada") is None
    assert (sandbox.clock.now(), sandbox.api_key) == (NOON, key)
    assert sandbox.authenticate(Credential("server", key)) is None
    assert sandbox.authenticate(Credential("user", token)) is not None


def test_clock_option_frozen_freezes_clock() -> None:
    sandbox = new_sandbox(clock="frozen")
    assert sandbox.clock.mode == "frozen"


def test_token_uses_sandbox_clock_or_wall_clock() -> None:
    sandbox = new_sandbox(clock=NOON + timedelta(days=36_500))
    sandbox.authenticate(Credential("user", sandbox.token("ada")))
    with pytest.raises(TokenExpired):
        sandbox.authenticate(Credential("user", sandbox.token("ada", MintOptions(use_wall_clock=True))))


def test_token_expires_after_requested_lifetime() -> None:
    sandbox = new_sandbox(clock=NOON)
    token = sandbox.token("ada", MintOptions(expires_in_s=60))
    sandbox.clock.advance(minutes=2)
    with pytest.raises(TokenExpired):
        sandbox.authenticate(Credential("user", token))


def test_unknown_bad_token_kind_error_lists_known_kinds() -> None:
    with pytest.raises(ValueError, match="expired"):
        new_sandbox().token("ada", MintOptions(bad="stale_read"))


def test_unknown_key_is_rejected_and_not_shown() -> None:
    with pytest.raises(InvalidApiKey) as raised:
        new_sandbox().authenticate(Credential("server", "fck_another_key"))
    assert raised.value.auth_reason == "unknown_key"
    assert "another_key" not in str(raised.value)


def test_closed_sandbox_rejects_its_own_key_and_tokens() -> None:
    sandbox = new_sandbox()
    token = sandbox.token("ada")
    sandbox.is_closed = True
    with pytest.raises(InvalidApiKey) as by_key:
        sandbox.authenticate(Credential("server", sandbox.api_key))
    with pytest.raises(InvalidToken) as by_token:
        sandbox.authenticate(Credential("user", token))
    assert [by_key.value.auth_reason, by_token.value.auth_reason] == ["closed_sandbox", "closed_sandbox"]


def test_token_of_another_sandbox_is_rejected() -> None:
    with pytest.raises(InvalidToken) as raised:
        new_sandbox("s1").authenticate(Credential("user", new_sandbox("s2").token("ada")))
    assert raised.value.auth_reason == "closed_sandbox"


def test_ledger_detects_inconsistent_balance() -> None:
    sandbox = new_sandbox(balance=5)
    sandbox.ledger.verify_balances()
    sandbox.ledger.get_account("app-id", "user-id").balance = 6
    with pytest.raises(LedgerInconsistency):
        sandbox.ledger.verify_balances()


def test_reprs_contain_no_key() -> None:
    sandbox = new_sandbox(api_key="fck_hush", balance=1, users={"ada": 1})
    registry = SandboxRegistry(sandbox)
    for item in (sandbox, sandbox.options, registry, Credential("server", "fck_hush")):
        assert "hush" not in repr(item)
    assert repr(sandbox) == "<Sandbox s1: <Ledger: applications=1, users=2>, seed 0>"


# Selecting a request's sandbox: by API key, then by the token's claim, then the default.


@pytest.fixture
def attached_sandboxes() -> tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox]:
    """Return a registry and its three attached sandboxes; the last is the default."""
    base, middle, last = new_sandbox("base"), new_sandbox("middle"), new_sandbox("last")
    registry = SandboxRegistry(base)
    registry.attach(middle)
    registry.attach(last)
    return registry, base, middle, last


def test_api_key_selects_its_sandbox(attached_sandboxes: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox]) -> None:
    registry, base, middle, _ = attached_sandboxes
    assert registry.resolve(Credential("server", middle.api_key)) is middle
    assert registry.resolve(Credential("server", base.api_key)) is base


def test_token_claim_selects_its_sandbox(attached_sandboxes: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox]) -> None:
    registry, _, middle, _ = attached_sandboxes
    assert registry.resolve(Credential("user", middle.token("ada"))) is middle
    assert registry.resolve(Credential("user", middle.token("ada", MintOptions(bad="expired")))) is middle


UNMATCHED_CREDENTIALS: dict[str, Callable[[], Credential | None]] = {
    "no credential": lambda: None,
    "unknown key": lambda: Credential("server", "fck_unknown"),
    "malformed token": lambda: Credential("user", "a.b.c"),
    "token of unattached sandbox": lambda: Credential("user", new_sandbox("elsewhere").token("ada")),
    "claim that is not a string": lambda: Credential(
        "user", new_sandbox().token("ada", MintOptions(claims={SANDBOX_CLAIM: ["middle"]}))
    ),
}


@pytest.mark.parametrize("credential", UNMATCHED_CREDENTIALS.values(), ids=UNMATCHED_CREDENTIALS.keys())
def test_unmatched_credential_selects_last_attached_sandbox(
    attached_sandboxes: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox], credential: Callable[[], Credential | None]
) -> None:
    registry, _, _, last = attached_sandboxes
    assert registry.resolve(credential()) is last


def test_detach_makes_previous_sandbox_the_default(
    attached_sandboxes: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox],
) -> None:
    registry, base, middle, last = attached_sandboxes
    registry.detach(middle)
    assert registry.default is last
    registry.detach(last)
    assert registry.default is base
    assert registry.resolve(Credential("server", middle.api_key)) is base
    registry.attach(middle)
    assert registry.default is middle


@pytest.mark.parametrize(
    "conflicting_options", [{"name": "s1"}, {"name": "s2", "api_key": "fck_same"}], ids=["name", "key"]
)
def test_attach_rejects_duplicate_name_or_key(conflicting_options: dict[str, str]) -> None:
    first = new_sandbox("s1", api_key="fck_same")
    registry = SandboxRegistry(first)
    with pytest.raises(ValueError, match="already attached") as raised:
        registry.attach(new_sandbox(**conflicting_options))
    assert "fck_same" not in str(raised.value)
    assert registry.default is first


def test_detach_ignores_unattached_sandbox_of_same_name() -> None:
    first = new_sandbox("s1")
    registry = SandboxRegistry(first)
    registry.detach(new_sandbox("s1"))
    assert registry.resolve(Credential("user", first.token("ada"))) is first
    with pytest.raises(ValueError, match="already attached"):
        registry.attach(new_sandbox("s1"))


# ------------------------------------------------------------ rules and gates


def test_rule_is_removed_under_sandbox_lock() -> None:
    """Otherwise, a server matching a call at the same time could keep the removed rule in its cache."""
    sandbox = Sandbox(SandboxOptions(), KEYS)
    rule = sandbox.add_fault(Rule(effect=Reset()))
    thread = threading.Thread(target=rule.remove)
    with sandbox.lock:
        thread.start()
        thread.join(0.005)
        assert not rule.is_removed
    thread.join()
    assert rule.is_removed


def test_releasing_gate_removes_its_rules() -> None:
    """A later gate with the same name holds only calls that match its own rules."""
    sandbox = Sandbox(SandboxOptions(), KEYS)
    other_rule = sandbox.add_fault(Rule(effect=HoldAtGate("other")))
    gate = sandbox.hold(Rule(effect=HoldAtGate("pay"), user="ada"))
    assert sandbox.hold(Rule(effect=HoldAtGate("pay"), user="bob")) is gate
    gate.release()
    assert list(sandbox.faults) == [other_rule]


def test_unnamed_gate_gets_unique_name() -> None:
    with FakeCredits() as fake:
        named_gate, unnamed = fake.hold(name="gate2"), fake.hold()
        assert named_gate is not unnamed
        assert {*fake.sandbox.gates} == {"gate2", unnamed.name}


def test_history_lengths_are_recorded_when_stale_read_rule_is_added() -> None:
    sandbox = Sandbox(SandboxOptions(balance=100), KEYS)
    assert sandbox.add_fault(Rule(effect=StaleRead(by_writes=1))).history_lengths == {("app-id", "user-id"): 1}
    assert sandbox.add_fault(Rule(effect=Close())).history_lengths == {}
