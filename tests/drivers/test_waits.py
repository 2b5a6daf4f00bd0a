"""The waits of a live server: what ends them, and what they cost who is woken in time."""

import asyncio

import pytest

from fake_credits.clock import monotonic_s
from fake_credits.drivers import waits
from fake_credits.drivers.waits import Waits
from fake_credits.web.exchange import Withdrawn

LONG_S = 30.0


def test_who_is_woken_in_time_looks_for_no_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """That walks the stacks of all threads: dear, and for nothing where the limit is no matter."""
    looks = list[bool]()
    monkeypatch.setattr(waits, "debugger_is_open", lambda: looks.append(True))

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, True)
        assert await Waits().until(future, LONG_S)

    asyncio.run(main())
    assert looks == []


def test_at_its_limit_a_wait_tells_that_nobody_ended_it() -> None:
    async def main() -> None:
        assert not await Waits().until(asyncio.get_running_loop().create_future(), 0.001)

    asyncio.run(main())


def test_a_limit_stands_still_while_a_debugger_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, True, False]
    monkeypatch.setattr(waits, "debugger_is_open", lambda: answers.pop(0))

    async def main() -> None:
        assert not await Waits().until(asyncio.get_running_loop().create_future(), 0.001)

    asyncio.run(main())
    assert answers == []


def test_a_sleep_lasts_as_long_as_it_says_unless_it_is_over_before() -> None:
    async def main() -> None:
        over = asyncio.get_running_loop().create_future()
        begun_s = monotonic_s()
        await Waits().sleep(0.003, over)
        assert monotonic_s() - begun_s >= 0.003
        asyncio.get_running_loop().call_soon(over.set_result, True)
        await asyncio.wait_for(Waits().sleep(LONG_S, over), 5)

    asyncio.run(main())


def test_withdrawing_ends_every_wait_and_leaves_none() -> None:
    async def main() -> None:
        kept = Waits()
        never = asyncio.get_running_loop().create_future()
        pending = [asyncio.ensure_future(wait) for wait in (kept.until(never, LONG_S), kept.sleep(LONG_S, never))]
        await asyncio.sleep(0)
        assert repr(kept) == "<Waits: 2 pending>"
        kept.withdraw()
        ended = await asyncio.gather(*pending, return_exceptions=True)
        assert [type(end) for end in ended] == [Withdrawn, Withdrawn]
        assert repr(kept) == "<Waits: 0 pending>"

    asyncio.run(main())
