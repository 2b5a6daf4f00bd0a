"""Test one isolated API: what its settings refuse, how it is funded and reset, and which credential means it."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_credits.contract import Contract
from fake_credits.errors import ApplicationNotFound, InvalidApiKey, InvalidToken, TokenExpired, UserNotFound
from fake_credits.fake import FakeCredits
from fake_credits.faults import HoldAtGate, Reset, Rule
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

Refused = tuple[dict[str, Any], type[Exception], str]

BAD_SETTINGS: dict[str, Refused] = {
    "an unknown preset": (
        {"auth_provider": "clark"},
        ValueError,
        "there is no JWT preset 'clark': choose one of plain, clerk",
    ),
    "a naive clock": ({"clock": datetime(2026, 3, 1)}, ValueError, "naive"),
    "an unknown clock": ({"clock": "stopped"}, ValueError, "choose 'real', 'frozen' or an aware datetime"),
    "an empty user id": ({"user_id": "", "balance": 1}, ValueError, "user id"),
    "a user id of dots": ({"users": {"..": 1}}, ValueError, "user id"),
    "a long user id": ({"users": {"u" * 257: 1}}, ValueError, "user id"),
    "a control character": ({"users": {"a\x00b": 1}}, ValueError, "user id"),
    "a lone surrogate": ({"users": {"a\ud800b": 1}}, ValueError, "user id"),
    "a user id that is no str": ({"users": {7: 1}}, TypeError, "user id must be a str, not int"),
    "a bad default user": ({"user_id": "."}, ValueError, "user id"),
    "a bad application id": ({"application_id": ".."}, ValueError, "application id"),
    "an application id that is no str": ({"application_id": None}, TypeError, "application id"),
    "a bool for a balance": ({"balance": True}, TypeError, "must be an int, not bool"),
    "a float for a balance": ({"users": {"ada": 1.5}}, TypeError, "must be an int, not float"),
    "a balance below the floor": ({"balance": -1}, ValueError, "'user-id' must be from 0 to"),
    "a balance above the ceiling": ({"balance": 2**53}, ValueError, "from 0 to 9007199254740991"),
    "a balance no delta reaches": (
        {"balance": 2**53, "contract": Contract(ceiling=None)},
        ValueError,
        "to 9007199254740991",
    ),
}


def sandbox(name: str = "s1", **settings: Any) -> Sandbox:
    return Sandbox(SandboxOptions(**settings), KEYS, name)


def deltas(box: Sandbox, user_id: str = "user-id") -> list[int]:
    return [row.delta for row in box.ledger.get_account("app-id", user_id).entries()]


@pytest.mark.parametrize("refused", BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_settings_that_cannot_be_met_are_refused_by_name(refused: Refused) -> None:
    words, error, match = refused
    with pytest.raises(error, match=match):
        sandbox(**words)


def test_a_balance_is_one_grant_and_users_are_one_each() -> None:
    box = sandbox(balance=5, users={"ada": 7, "bob": 0})
    assert [deltas(box), deltas(box, "ada"), deltas(box, "bob")] == [[5], [7], []]
    assert len(box.journal) == 0


def test_a_balance_and_users_may_say_the_same_of_the_default_user() -> None:
    box = sandbox(balance=5, users={"user-id": 5})
    assert deltas(box) == [5]
    assert deltas(sandbox(balance=5, users={"user-id": 7}, user_id="ada")) == [7]


def test_without_a_balance_the_default_user_does_not_exist() -> None:
    with pytest.raises(UserNotFound):
        sandbox().ledger.get_account("app-id", "user-id")


def test_a_contract_with_overdraft_lets_a_sandbox_start_below_zero() -> None:
    box = sandbox(contract=Contract(floor=-10), balance=-10)
    assert [(row.delta, row.reason) for row in box.ledger.get_account("app-id", "user-id").entries()] == [
        (-10, Reason.CONSUME)
    ]


def test_funding_brings_a_balance_to_what_is_asked_with_one_transaction() -> None:
    box = sandbox()
    for balance in (100, 90, 90, None, 0):
        box.set_balance("user-id", balance)
    assert deltas(box) == [100, -10, -90]


def test_funding_that_is_refused_makes_no_user() -> None:
    box = sandbox()
    with pytest.raises(ValueError, match="from 0 to"):
        box.set_balance("ada", -1)
    assert box.ledger.find_account("app-id", "ada") is None


def test_funding_reaches_another_application_and_refuses_a_bad_one() -> None:
    box = sandbox()
    assert box.set_balance("ada", 3, application_id="other").application_id == "other"
    with pytest.raises(ValueError, match="application id"):
        box.set_balance("ada", 3, application_id="x" * 257)


def test_funding_outside_a_closed_list_of_applications_is_refused_as_the_api_would() -> None:
    with pytest.raises(ApplicationNotFound, match="known: a"):
        sandbox(contract=Contract(applications=("a",))).set_balance("ada", 1)


def test_reset_returns_to_how_it_started_and_keeps_key_and_tokens() -> None:
    box = sandbox(balance=5, clock=NOON)
    key, token = box.api_key, box.token("user-id")
    box.set_balance("user-id", 50)
    box.set_balance("ada", 1)
    box.clock.advance(days=1)
    box.reset()
    assert deltas(box) == [5]
    assert box.ledger.find_account("app-id", "ada") is None
    assert (box.clock.now(), box.api_key) == (NOON, key)
    assert box.authenticate(Credential("server", key)) is None
    assert box.authenticate(Credential("user", token)) is not None


def test_a_frozen_clock_is_frozen_at_the_moment_of_the_start() -> None:
    box = sandbox(clock="frozen")
    assert box.clock.mode == "frozen"


def test_a_token_is_minted_by_the_sandboxes_clock_or_by_the_wall() -> None:
    box = sandbox(clock=NOON + timedelta(days=36_500))
    box.authenticate(Credential("user", box.token("ada")))
    with pytest.raises(TokenExpired):
        box.authenticate(Credential("user", box.token("ada", MintOptions(use_wall_clock=True))))


def test_a_token_lives_as_long_as_is_asked() -> None:
    box = sandbox(clock=NOON)
    token = box.token("ada", MintOptions(expires_in_s=60))
    box.clock.advance(minutes=2)
    with pytest.raises(TokenExpired):
        box.authenticate(Credential("user", token))


def test_an_unknown_kind_of_bad_token_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(ValueError, match="expired"):
        sandbox().token("ada", MintOptions(bad="stale_read"))


def test_another_key_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidApiKey) as refused:
        sandbox().authenticate(Credential("server", "fck_somebody_elses"))
    assert refused.value.auth_reason == "unknown_key"
    assert "somebody" not in str(refused.value)


def test_a_closed_sandbox_refuses_its_own_key_and_tokens() -> None:
    box = sandbox()
    token = box.token("ada")
    box.is_closed = True
    with pytest.raises(InvalidApiKey) as by_key:
        box.authenticate(Credential("server", box.api_key))
    with pytest.raises(InvalidToken) as by_token:
        box.authenticate(Credential("user", token))
    assert [by_key.value.auth_reason, by_token.value.auth_reason] == ["closed_sandbox", "closed_sandbox"]


def test_a_token_of_another_sandbox_with_the_same_keys_is_refused() -> None:
    with pytest.raises(InvalidToken) as refused:
        sandbox("s1").authenticate(Credential("user", sandbox("s2").token("ada")))
    assert refused.value.auth_reason == "closed_sandbox"


def test_verify_finds_a_ledger_that_contradicts_itself() -> None:
    box = sandbox(balance=5)
    box.verify_ledger()
    box.ledger.get_account("app-id", "user-id").balance = 6
    with pytest.raises(LedgerInconsistency):
        box.verify_ledger()


def test_reprs_never_leak_the_key() -> None:
    box = sandbox(api_key="fck_hush", balance=1, users={"ada": 1})
    boxes = SandboxRegistry(box)
    for shown in (box, box.options, boxes, Credential("server", "fck_hush")):
        assert "hush" not in repr(shown)
    assert repr(box) == "<Sandbox s1: <Ledger of 2 users in 1 applications>, seed 0>"


# A request's sandbox, in the design's order: the API key's, the one a token's claim names, the default.


@pytest.fixture
def three() -> tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox]:
    """Return a server's sandboxes with three attached; the last is the default."""
    base, middle, last = sandbox("base"), sandbox("middle"), sandbox("last")
    boxes = SandboxRegistry(base)
    boxes.attach(middle)
    boxes.attach(last)
    return boxes, base, middle, last


def test_an_api_key_picks_its_sandbox(three: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox]) -> None:
    boxes, base, middle, _ = three
    assert boxes.resolve(Credential("server", middle.api_key)) is middle
    assert boxes.resolve(Credential("server", base.api_key)) is base


def test_a_tokens_claim_picks_its_sandbox(three: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox]) -> None:
    boxes, _, middle, _ = three
    assert boxes.resolve(Credential("user", middle.token("ada"))) is middle
    assert boxes.resolve(Credential("user", middle.token("ada", MintOptions(bad="expired")))) is middle


STRANGERS: dict[str, Callable[[], Credential | None]] = {
    "no credential": lambda: None,
    "an unknown key": lambda: Credential("server", "fck_nobodys"),
    "garbage for a token": lambda: Credential("user", "a.b.c"),
    "a token of a sandbox elsewhere": lambda: Credential("user", sandbox("elsewhere").token("ada")),
    "a claim that is no name": lambda: Credential(
        "user", sandbox().token("ada", MintOptions(claims={SANDBOX_CLAIM: ["middle"]}))
    ),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys())
def test_what_names_no_sandbox_picks_the_one_attached_last(
    three: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox], stranger: Callable[[], Credential | None]
) -> None:
    boxes, _, _, last = three
    assert boxes.resolve(stranger()) is last


def test_detaching_gives_the_default_back_to_the_one_before(
    three: tuple[SandboxRegistry, Sandbox, Sandbox, Sandbox],
) -> None:
    boxes, base, middle, last = three
    boxes.detach(middle)
    assert boxes.default is last
    boxes.detach(last)
    assert boxes.default is base
    assert boxes.resolve(Credential("server", middle.api_key)) is base
    boxes.attach(middle)
    assert boxes.default is middle


@pytest.mark.parametrize("twin", [{"name": "s1"}, {"name": "s2", "api_key": "fck_same"}], ids=["name", "key"])
def test_a_name_or_a_key_that_is_taken_is_refused(twin: dict[str, str]) -> None:
    first = sandbox("s1", api_key="fck_same")
    boxes = SandboxRegistry(first)
    with pytest.raises(ValueError, match="attached already") as refused:
        boxes.attach(sandbox(**twin))
    assert "fck_same" not in str(refused.value)
    assert boxes.default is first


def test_detaching_a_stranger_of_the_same_name_detaches_nobody() -> None:
    first = sandbox("s1")
    boxes = SandboxRegistry(first)
    boxes.detach(sandbox("s1"))
    assert boxes.resolve(Credential("user", first.token("ada"))) is first
    with pytest.raises(ValueError, match="attached already"):
        boxes.attach(sandbox("s1"))


# ------------------------------------------------------------ rules and gates


def test_a_rule_is_taken_out_under_the_sandboxs_lock() -> None:
    """A server that decides meanwhile would else keep it among the rules of some call for ever."""
    sandbox = Sandbox(SandboxOptions(), KEYS)
    rule = sandbox.add_fault(Rule(effect=Reset()))
    remover = threading.Thread(target=rule.remove)
    with sandbox.lock:
        remover.start()
        remover.join(0.005)
        assert not rule.is_removed
    remover.join()
    assert rule.is_removed


def test_an_open_gate_takes_all_its_rules_with_it() -> None:
    """The next gate of its name holds nobody's calls but those of its own rules."""
    sandbox = Sandbox(SandboxOptions(), KEYS)
    other = sandbox.add_fault(Rule(effect=HoldAtGate("other")))
    gate = sandbox.hold(Rule(effect=HoldAtGate("pay"), user="ada"))
    assert sandbox.hold(Rule(effect=HoldAtGate("pay"), user="bob")) is gate
    gate.release()
    assert list(sandbox.faults) == [other]


def test_a_gate_that_is_given_no_name_gets_one_of_its_own() -> None:
    with FakeCredits() as fake:
        named, nameless = fake.hold(name="gate2"), fake.hold()
        assert named is not nameless
        assert {*fake.sandbox.gates} == {"gate2", nameless.name}
