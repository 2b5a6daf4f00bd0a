"""Recording a run: what the recorder sees of calls, in process and over a socket."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.errors import Unavailable
from fake_credits.explore.ownership import CALLER_HEADER, TestCode
from fake_credits.explore.recorder import CallStorm, Recorder
from fake_credits.explore.schedules import parse_schedule
from fake_credits.faults import Status
from tests.explore.applications import APP


def read(api: ServerClient) -> int:
    return api.get_balance(APP, "ada").balance


def read_directly(credits: FakeCredits) -> None:
    credits.server_client.get_balance(APP, "ada")


@pytest.fixture
def credits() -> Iterator[FakeCredits]:
    with FakeCredits(users={"ada": 100}) as credits:
        yield credits


@pytest.fixture
def live_credits() -> Iterator[FakeCredits]:
    with FakeCredits(mode="live", users={"ada": 100}) as credits:
        yield credits


def recorder(text: str = "", max_calls: float = 20) -> Recorder:
    return Recorder(parse_schedule(text) if text else (), TestCode([read_directly.__code__]), max_calls=max_calls)


def test_hook_survives_cleared_rules_and_a_reset(credits: FakeCredits) -> None:
    recording = recorder()
    recording.attach(credits.sandbox)
    credits.faults.clear()
    credits.reset()
    read(credits.server_client)
    assert len(recording.run.calls) == 1
    recording.finish()
    assert recording.run.was_reset


def test_rules_of_the_test_come_first(credits: FakeCredits) -> None:
    recording = recorder("1:lost_before")
    recording.attach(credits.sandbox)
    credits.faults.add(Status(503), nth=1)
    with pytest.raises(Unavailable):
        read(credits.server_client)
    assert read(credits.server_client) == 100
    recording.finish()
    (affected, other) = recording.run.calls
    assert (affected.has_own_rule, affected.fault, other.fault) == (True, "", "")
    assert (recording.run.has_own_rules, recording.run.not_met) == (True, 1)


def test_suite_wide_latency_does_not_count_as_a_rule_of_the_test() -> None:
    with FakeCredits(users={"ada": 100}, latency=20) as credits:
        recording = recorder("1:refused")
        recording.attach(credits.sandbox)
        with pytest.raises(Unavailable):
            read(credits.server_client)
        recording.finish()
        assert (recording.run.has_own_rules, recording.run.calls[0].fault) == (False, "refused")


def test_storm_ends_the_application_even_if_it_catches_exceptions(credits: FakeCredits) -> None:
    recording = recorder(max_calls=20)
    recording.attach(credits.sandbox)

    def read_for_ever() -> None:
        while True:
            try:
                read(credits.server_client)
            except Exception:  # noqa: BLE001, S112 - as a careless application does
                continue

    with pytest.raises(CallStorm, match="more than 20 calls"):
        read_for_ever()
    recording.finish()
    assert (recording.run.is_storm, len(recording.run.calls)) == (True, 21)


def test_storm_over_a_socket_is_refused_closed_and_reported(credits: FakeCredits) -> None:
    recording, storms = recorder(max_calls=2), list[str]()
    recording.attach(credits.sandbox)
    recording.on_storm = lambda: storms.append("storm")
    with closing(HTTPConnection(credits.base_url.removeprefix("http://"))) as connection:
        for status in (200, 200, 503):
            connection.request(
                "GET", f"/v1/applications/{APP}/users/ada/balance", headers={"X-API-Key": credits.api_key}
            )
            response = connection.getresponse()
            response.read()
            assert response.status == status
        assert connection.sock.recv(1) == b""
    assert storms == ["storm"]
    assert (recording.run.is_storm, recording.run.uses_socket) == (True, True)


def test_live_clients_mark_calls_made_by_the_test(live_credits: FakeCredits) -> None:
    recording = recorder()
    recording.attach(live_credits.sandbox)
    read_directly(live_credits)
    read(live_credits.server_client)
    assert [call.number for call in recording.run.calls] == [0, 1]
    assert CALLER_HEADER.decode() not in str(live_credits.journal.entries())


def test_async_live_clients_mark_calls_made_by_the_test(live_credits: FakeCredits) -> None:
    recording = recorder()
    recording.attach(live_credits.sandbox)

    async def main() -> None:
        with live_credits.aside():
            await live_credits.async_server_client.get_balance(APP, "ada")
        await live_credits.async_server_client.get_balance(APP, "ada")

    asyncio.run(main())
    assert [bool(call.number) for call in recording.run.calls] == [False, True]


def test_ledger_inspection_is_recorded(credits: FakeCredits) -> None:
    recording = recorder()
    recording.attach(credits.sandbox)
    read(credits.server_client)
    assert recording.run.inspected_after == 0
    credits.balance("ada")
    assert recording.run.inspected_after == 1
    read(credits.server_client)
    credits.journal.assert_called("getBalance")
    assert recording.run.inspected_after == 2
