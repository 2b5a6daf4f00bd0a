"""Test failure messages: the expected call, the nearest calls, no secrets, and a limited length."""

import pytest

from fake_credits.assertions import JournalAssertions
from tests.assertions.conftest import API_KEY, WriteEntry
from tests.documentation import TEXT

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln"


def message_lines(error: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    return str(error.value).splitlines()


def test_nearest_calls_are_listed_first_with_differences(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry("createTransaction", user="bob", delta=-5, committed=True)
    write_entry("getBalance", status=200)
    write_entry("createTransaction", delta=-10, status=402, code="insufficient_credits")
    write_entry("createTransaction", delta=-1, committed=True, delivered=False)
    write_entry("", method="GET", target="/x", user="", status=404, code="route_not_found")
    with pytest.raises(AssertionError) as error:
        journal.assert_called("createTransaction", user="ada", delta=-10, committed=True)
    assert message_lines(error) == [
        "createTransaction(user='ada', delta=-10, committed=True) was not called",
        "the closest of 5 exchanges (!= marks a difference):",
        "        operation          user      delta    committed  response",
        "wanted  createTransaction  'ada'     -10      True",
        "#4      createTransaction  'ada'     != -1    True       201, undelivered",
        "#3      createTransaction  'ada'     -10      != False   402 insufficient_credits",
        "#1      createTransaction  != 'bob'  != -5    True       201",
        "#2      != getBalance      'ada'     != None  != False   200",
        "#5      != GET /x          != ''     != None  != False   404 route_not_found",
    ]


def test_docs_contain_failure_message(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry("getBalance", status=200)
    write_entry("createTransaction", user="bob", delta=-10, status=402, code="insufficient_credits")
    write_entry("createTransaction", delta=-1)
    with pytest.raises(AssertionError) as error:
        journal.assert_called("createTransaction", user="ada", delta=-10)
    assert f"```\n{error.value}\n```" in TEXT


def test_pattern_without_operation_shows_operation_column(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry("getBalance", status=200)
    with pytest.raises(AssertionError) as error:
        journal.assert_called(status=500, where=lambda entry: entry.status > 201)
    assert message_lines(error)[2:] == [
        "        operation   status  where <lambda>  response",
        "wanted              500     True",
        "#1      getBalance  != 200  != False        200",
    ]


def test_fired_fault_is_named(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry(delivered=False, rule="reset#1")
    write_entry(status=503, code="unavailable", rule="\x1b[2J" + "x" * 100)
    with pytest.raises(AssertionError) as error:
        journal.assert_called("getUser")
    reset, unavailable = message_lines(error)[5], message_lines(error)[4]
    assert reset.endswith("  201, undelivered, fault reset#1")
    assert r"  503 unavailable, fault \x1b[2Jx" in unavailable
    assert unavailable.endswith("x…")


def test_same_operation_ranks_before_same_user(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    write_entry("createTransaction", user="bob")
    write_entry("getBalance", user="ada")
    with pytest.raises(AssertionError) as error:
        journal.assert_called("createTransaction", user="ada")
    assert [line.split()[0] for line in message_lines(error)[4:]] == ["#1", "#2"]


def test_empty_journal_message_explains_how_to_reach_sandbox(journal: JournalAssertions) -> None:
    with pytest.raises(AssertionError) as error:
        journal.assert_called("createUser")
    assert message_lines(error)[0] == "createUser was not called"
    assert message_lines(error)[1].startswith("no request reached this sandbox. Use one of the fixture's clients")
    assert len(message_lines(error)) == 2


def test_exchange_in_flight_is_mentioned(journal: JournalAssertions) -> None:
    journal.begin_exchange()[0]
    with pytest.raises(AssertionError, match="1 exchange still in progress: use wait_for to wait for a call"):
        journal.assert_called("createUser")


def test_at_most_five_calls_of_limited_width_are_shown(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    for _ in range(20):
        write_entry(user="u" * 1000)
    with pytest.raises(AssertionError) as error:
        journal.assert_called(user="ada")
    assert len(message_lines(error)) == 9
    assert message_lines(error)[4].startswith("#20 ")
    assert max(map(len, message_lines(error))) < 120


def test_last_calls_are_shown_when_there_are_too_many(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    for _ in range(3):
        write_entry(delta=-1)
    with pytest.raises(AssertionError) as error:
        journal.assert_called("createTransaction", user="ada", times=1)
    assert message_lines(error)[0] == "createTransaction(user='ada') was called 3 times, not 1 time"
    assert [line.split()[0] for line in message_lines(error)[4:]] == ["#3", "#2", "#1"]


def test_secrets_and_control_characters_are_removed(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    """Text is truncated only after redaction, because even part of a key is secret."""
    write_entry(user="x" * 30 + API_KEY, headers={"traceparent": TOKEN}, idempotency_key="\x1b[2J\u202e")
    write_entry("", method="GET", target=f"/{API_KEY}", user=TOKEN)
    with pytest.raises(AssertionError) as error:
        journal.assert_called(user=API_KEY, idempotency_key="k", headers={"traceparent": "a"})
    text = str(error.value)
    assert "<api key>" in text
    assert "'<token>'" in text
    assert "GET /<api key>" in text
    assert API_KEY[:8] not in text
    assert "eyJ" not in text
    assert text.replace("\n", "").isprintable()
    assert r"'\x1b[2J\u202e'" in text


def test_shared_idempotency_keys_are_listed_without_secrets(
    journal: JournalAssertions, write_entry: WriteEntry
) -> None:
    for delta in range(1, 8):
        write_entry(delta=-delta, reason="consume", committed=True, idempotency_key="order-1")
    for _ in range(2):
        write_entry("createUser", user=API_KEY, committed=True, idempotency_key=TOKEN)
    with pytest.raises(AssertionError) as error:
        journal.assert_committed_once()
    writes = ", ".join(f"#{n} createTransaction -{n} consume for 'ada'" for n in range(1, 6))
    assert message_lines(error) == [
        "committed writes share 2 idempotency keys, so retries were committed as well:",
        f"'order-1': {writes} and 2 more",
        "'<token>': #8 createUser for '<api key>', #9 createUser for '<api key>'",
    ]


def test_at_most_five_shared_idempotency_keys_are_listed(journal: JournalAssertions, write_entry: WriteEntry) -> None:
    for number in range(14):
        write_entry(committed=True, idempotency_key=f"k{number // 2}")
    with pytest.raises(AssertionError) as error:
        journal.assert_committed_once()
    assert len(message_lines(error)) == 6
