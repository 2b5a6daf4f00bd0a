"""Own how a world gets into a server that speaks the contract, through the six operations alone; know no terminal.

Nothing is remembered between runs: each user's history is read, and the plan goes on behind it. A write without a
usable answer may have happened, which the balance tells. At its end a user's balance must be the plan's: that finds a
write that landed later still.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice, zip_longest
from itertools import count as count_from
from typing import NamedTuple, TypeVar

from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import Contract
from fake_credits.errors import ApiError, FakeCreditsError, InvalidResponse, TransportFailure, UserNotFound
from fake_credits.ledger import Ledger
from fake_credits.models import Reason
from fake_credits.seeding.errors import TargetError
from fake_credits.seeding.world import KEPT, History, World

__all__ = ["Found", "Hear", "Patience", "Seeder", "Site", "Totals", "totals_of"]

T = TypeVar("T")
Hear = Callable[[int], object]
Move = tuple[int, Reason | str]

_ABSENT = -1
_LATER = (408, 425, 429)  # too slow, too early, too many
_ELSE = "somebody else writes to it, or what was lost has landed late"
_LONGEST_PAUSE_S = 30.0


class Totals(NamedTuple):
    """Be what a world comes to; amounts are in credits."""

    users: int = 0
    transactions: int = 0
    granted: int = 0
    consumed: int = 0
    refunded: int = 0


class Found(NamedTuple):
    """Be what of a world a server has already."""

    users: int = 0
    transactions: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """Say how often a call is tried while it gets nowhere, and how long the pauses are, each twice the one before."""

    tries: int = 8
    first_pause_s: float = 0.05
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def bear(self, failure: FakeCreditsError, failures: int, doing: str) -> None:
        """Wait after a failure, as long as the server asks for; raise TargetError where waiting is of no use."""
        if not _may_pass(failure):
            raise TargetError(f"{doing}: {failure}") from failure
        if failures >= self.tries:
            raise TargetError(f"{doing}: gave up after {failures} tries: {failure}") from failure
        asked_s = failure.retry_after_s if isinstance(failure, ApiError) else None
        await self.sleep(min(max(self.first_pause_s * 2 ** (failures - 1), asked_s or 0), _LONGEST_PAUSE_S))


def totals_of(world: World, contract: Contract, application_id: str, hear: Hear) -> Totals:
    """Return what a world comes to under a contract; raise WorldError where it can't be made or breaks a rule.

    ``hear`` is told of the transactions of each user.
    """
    sums = dict.fromkeys(Reason, 0)
    users = transactions = 0
    for account in world.accounts(Ledger(contract), application_id):
        hear(len(account))
        users, transactions = users + 1, transactions + len(account)
        for row in account.rows():
            sums[row.reason] += row.delta
    return Totals(users, transactions, sums[Reason.GRANT], -sums[Reason.CONSUME], sums[Reason.REFUND])


class Seeder:
    """Bring the users of one application on a server to a world's histories.

    `look` comes first and only reads; then `create` and `fill` write what is missing. All raise TargetError where the
    server refuses or is not there, and where a user has a history that is no beginning of the planned one. As many
    users are dealt with at once as ``concurrency`` says; the transactions of one come one after the other.
    """

    def __init__(self, world: World, site: "Site", *, concurrency: int = 8, patience: Patience | None = None) -> None:
        self._world = world
        self._site = site
        self._concurrency = concurrency
        self._patience = patience or Patience()
        self._there: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Seeder of {self._world!r}>"

    async def look(self, hear: Hear) -> Found:
        """Read what is there, and return it; ``hear`` is told of each user."""

        async def look_at(place: int, user: "_User") -> None:
            # The first has no patience: of a server that is not there, or refuses the key, is told at once.
            self._there[place] = await (user.count() if place else user.first_count())
            hear(1)

        self._there.clear()
        histories = enumerate(self._world.histories())
        await self._each(islice(histories, 1), look_at)
        await self._each(histories, look_at)
        counts = self._there.values()
        return Found(sum(count != _ABSENT for count in counts), sum(count for count in counts if count != _ABSENT))

    async def create(self, hear: Hear) -> None:
        """Create the users that `look` has not found, roughly in their order; ``hear`` is told of each."""

        async def create(place: int, user: "_User") -> None:
            if self._there[place] == _ABSENT:
                await user.create()
                hear(1)

        await self._each(enumerate(self._world.histories()), create)

    async def fill(self, hear: Hear) -> None:
        """Write the transactions that `look` has not found; ``hear`` is told of each."""

        async def fill(place: int, user: "_User") -> None:
            there = self._there[place]
            if there < len(user.planned):
                await user.fill(there, hear)

        numbered: Iterator[tuple[int, History]] = enumerate(self._world.histories())
        if self._world.size <= KEPT:  # the longest first, so that none of them is alone at the end
            numbered = iter(sorted(numbered, key=lambda each: -len(each[1].columns.deltas)))
        await self._each(numbered, fill)

    async def _each(
        self, histories: Iterator[tuple[int, History]], work: Callable[[int, "_User"], Awaitable[None]]
    ) -> None:
        async def worker() -> None:
            for place, history in histories:  # shared: whoever is free takes the next
                await work(place, _User(self._site, self._patience, history))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(worker())
        except ExceptionGroup as failed:
            first = failed.exceptions[0]
            raise first from first.__cause__


@dataclass(frozen=True, slots=True)
class Site:
    """Be one application on a server, and the contract that the server speaks."""

    client: AsyncServerClient
    application_id: str
    contract: Contract


class _User:
    """Be one user on the way to the planned history."""

    def __init__(self, site: Site, patience: Patience, history: History) -> None:
        self._site = site
        self._patience = patience
        self._id = history.user_id
        self.planned: list[Move] = [(delta, reason) for delta, reason, _ in history.columns.rows()]
        self._sums = [0, *accumulate(history.columns.deltas)]

    async def first_count(self) -> int:
        """Return how many of the planned transactions are there, or `_ABSENT`; raise TargetError for others."""
        try:
            return await self._count()
        except FakeCreditsError as failure:
            raise TargetError(str(failure)) from failure

    async def count(self) -> int:
        """Do the same with patience."""
        return await self._patiently(self._count)

    async def create(self) -> None:
        """Make the user exist: a call that may be made twice."""
        site = self._site
        await self._patiently(lambda: site.client.create_user(site.application_id, self._id))

    async def fill(self, count: int, hear: Hear) -> None:
        """Write what comes after the first ``count`` transactions, and see that the balance is the planned one."""
        if count == _ABSENT:
            count = 0
        else:  # once more: the last write of a run that was ended may have landed since
            there = max(await self.count(), 0)
            hear(there - count)
            count = there
        for place in range(count, len(self.planned)):
            await self._write(place)
            hear(1)
        if await self._balance() != self._sums[-1]:
            raise await self._estranged(len(self.planned))

    async def _write(self, place: int) -> None:
        """Make the transaction at a place of the plan happen once, whatever becomes of the answers.

        Without one the balance tells whether it happened: no transaction leaves it as it was.
        """
        site, (delta, reason) = self._site, self.planned[place]
        for failures in count_from(1):
            try:
                await site.client.create_transaction(site.application_id, self._id, delta=delta, reason=reason)
            except FakeCreditsError as failure:
                await self._patience.bear(failure, failures, f"user {self._id!r}, transaction {place + 1}")
                balance = await self._balance()
                if balance == self._sums[place]:
                    continue
                if balance != self._sums[place + 1]:
                    raise await self._estranged(place + 1) from None
            return

    async def _balance(self) -> int:
        site = self._site
        return (await self._patiently(lambda: site.client.get_balance(site.application_id, self._id))).balance

    async def _estranged(self, place: int) -> TargetError:
        """Return what to say of a balance that is not the plan's; the history, where it is none either, says more."""
        there, balance = await self.count(), await self._balance()
        found = f"user {self._id!r} has {max(there, 0)} transactions and a balance of {balance}"
        return TargetError(f"{found}, and the plan's number {place} leaves {self._sums[place]}: {_ELSE}")

    async def _count(self) -> int:
        site = self._site
        try:
            there: list[Move] = [
                (each.delta, each.reason) async for each in site.client.iter_transactions(site.application_id, self._id)
            ]
        except UserNotFound:
            return _ABSENT
        if site.contract.transactions_order == "newest_first":
            there.reverse()
        if there != self.planned[: len(there)]:
            raise TargetError(
                f"user {self._id!r} has a history that is no beginning of the plan: {self._unlike(there)}"
            )
        return len(there)

    def _unlike(self, there: list[Move]) -> str:
        for place, (found, wanted) in enumerate(zip_longest(there, self.planned), 1):
            if found != wanted:
                planned = "there is none in the plan" if wanted is None else f"the plan has {wanted[0]} {wanted[1]}"
                return f"its transaction {place} is {found[0]} {found[1]}, and {planned}"
        raise AssertionError("only histories that differ are compared")

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what a call returns that can be made twice."""
        for failures in count_from(1):
            try:
                return await call()
            except FakeCreditsError as failure:
                await self._patience.bear(failure, failures, f"user {self._id!r}")
        raise AssertionError("there is always one more try, or an end of patience")


def _may_pass(failure: FakeCreditsError) -> bool:
    """Tell whether a failure says nothing of what the server makes of the call."""
    if isinstance(failure, ApiError | InvalidResponse):
        return failure.status >= 500 or failure.status in _LATER
    return isinstance(failure, TransportFailure)
