"""Test what a failed assertion says: what was asked, the nearest calls field by field, no secret, and not too much."""

from pathlib import Path

import pytest

from fake_credits.assertions import JournalAssertions
from tests.assertions.conftest import API_KEY, Told

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln"


def said(failed: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    return str(failed.value).splitlines()


def test_the_nearest_calls_come_first_with_what_differs(journal: JournalAssertions, tell: Told) -> None:
    tell("createTransaction", user="bob", delta=-5, committed=True)
    tell("getBalance", status=200)
    tell("createTransaction", delta=-10, status=402, code="insufficient_credits")
    tell("createTransaction", delta=-1, committed=True, delivered=False)
    tell("", method="GET", target="/x", user="", status=404, code="route_not_found")
    with pytest.raises(AssertionError) as failed:
        journal.assert_called("createTransaction", user="ada", delta=-10, committed=True)
    assert said(failed) == [
        "createTransaction(user='ada', delta=-10, committed=True) was not called",
        "the nearest of 5 exchanges, != where they differ:",
        "        operation          user      delta    committed  answer",
        "wanted  createTransaction  'ada'     -10      True",
        "#4      createTransaction  'ada'     != -1    True       201, undelivered",
        "#3      createTransaction  'ada'     -10      != False   402 insufficient_credits",
        "#1      createTransaction  != 'bob'  != -5    True       201",
        "#2      != getBalance      'ada'     != None  != False   200",
        "#5      != GET /x          != ''     != None  != False   404 route_not_found",
    ]


def test_the_readme_shows_one(journal: JournalAssertions, tell: Told) -> None:
    tell("getBalance", status=200)
    tell("createTransaction", user="bob", delta=-10, status=402, code="insufficient_credits")
    tell("createTransaction", delta=-1)
    with pytest.raises(AssertionError) as failed:
        journal.assert_called("createTransaction", user="ada", delta=-10)
    readme = Path(__file__).resolve().parents[2] / "README.md"
    assert f"```\n{failed.value}\n```" in readme.read_text()


def test_any_call_has_its_operation_all_the_same(journal: JournalAssertions, tell: Told) -> None:
    tell("getBalance", status=200)
    with pytest.raises(AssertionError) as failed:
        journal.assert_called(status=500, where=lambda told: told.status > 201)
    assert said(failed)[2:] == [
        "        operation   status  where <lambda>  answer",
        "wanted              500     True",
        "#1      getBalance  != 200  != False        200",
    ]


def test_the_fault_that_fired_is_named(journal: JournalAssertions, tell: Told) -> None:
    tell(delivered=False, rule="reset#1")
    tell(status=503, code="unavailable", rule="\x1b[2J" + "x" * 100)
    with pytest.raises(AssertionError) as failed:
        journal.assert_called("getUser")
    reset, bad_day = said(failed)[5], said(failed)[4]
    assert reset.endswith("  201, undelivered, fault reset#1")
    assert r"  503 unavailable, fault \x1b[2Jx" in bad_day
    assert bad_day.endswith("x…")


def test_the_same_operation_is_nearer_than_the_same_user(journal: JournalAssertions, tell: Told) -> None:
    tell("createTransaction", user="bob")
    tell("getBalance", user="ada")
    with pytest.raises(AssertionError) as failed:
        journal.assert_called("createTransaction", user="ada")
    assert [line.split()[0] for line in said(failed)[4:]] == ["#1", "#2"]


def test_an_empty_journal_says_how_to_reach_the_sandbox(journal: JournalAssertions) -> None:
    with pytest.raises(AssertionError) as failed:
        journal.assert_called("createUser")
    assert said(failed)[0] == "createUser was not called"
    assert said(failed)[1].startswith("no request reached this sandbox. Give the code under test a client")
    assert len(said(failed)) == 2


def test_an_exchange_that_has_not_ended_is_mentioned(journal: JournalAssertions) -> None:
    journal.next_ordinal()
    with pytest.raises(AssertionError, match="1 exchange still under way: wait_for waits for a call"):
        journal.assert_called("createUser")


def test_at_most_five_calls_of_bounded_width_are_shown(journal: JournalAssertions, tell: Told) -> None:
    for _ in range(20):
        tell(user="u" * 1000)
    with pytest.raises(AssertionError) as failed:
        journal.assert_called(user="ada")
    assert len(said(failed)) == 9
    assert said(failed)[4].startswith("#20 ")
    assert max(map(len, said(failed))) < 120


def test_of_too_many_calls_the_last_are_shown(journal: JournalAssertions, tell: Told) -> None:
    for _ in range(3):
        tell(delta=-1)
    with pytest.raises(AssertionError) as failed:
        journal.assert_called("createTransaction", user="ada", times=1)
    assert said(failed)[0] == "createTransaction(user='ada') was called 3 times, not 1 time"
    assert [line.split()[0] for line in said(failed)[4:]] == ["#3", "#2", "#1"]


def test_secrets_and_control_characters_stay_out(journal: JournalAssertions, tell: Told) -> None:
    """Cut only after the secrets are gone: half a key is still one."""
    tell(user="x" * 30 + API_KEY, headers={"traceparent": TOKEN}, idempotency_key="\x1b[2J\u202e")
    tell("", method="GET", target=f"/{API_KEY}", user=TOKEN)
    with pytest.raises(AssertionError) as failed:
        journal.assert_called(user=API_KEY, idempotency_key="k", headers={"traceparent": "a"})
    text = str(failed.value)
    assert "<api key>" in text
    assert "'<token>'" in text
    assert "GET /<api key>" in text
    assert API_KEY[:8] not in text
    assert "eyJ" not in text
    assert text.replace("\n", "").isprintable()
    assert r"'\x1b[2J\u202e'" in text


def test_shared_keys_are_listed_with_their_writes_and_without_secrets(journal: JournalAssertions, tell: Told) -> None:
    for delta in range(1, 8):
        tell(delta=-delta, reason="consume", committed=True, idempotency_key="order-1")
    for _ in range(2):
        tell("createUser", user=API_KEY, committed=True, idempotency_key=TOKEN)
    with pytest.raises(AssertionError) as failed:
        journal.assert_committed_once()
    shown = ", ".join(f"#{n} createTransaction -{n} consume for 'ada'" for n in range(1, 6))
    assert said(failed) == [
        "committed writes share 2 idempotency keys, so a retry was charged again:",
        f"'order-1': {shown} and 2 more",
        "'<token>': #8 createUser for '<api key>', #9 createUser for '<api key>'",
    ]


def test_at_most_five_shared_keys_are_listed(journal: JournalAssertions, tell: Told) -> None:
    for number in range(14):
        tell(committed=True, idempotency_key=f"k{number // 2}")
    with pytest.raises(AssertionError) as failed:
        journal.assert_committed_once()
    assert len(said(failed)) == 6
