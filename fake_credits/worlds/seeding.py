"""Seeding: writing a world to any server, using only the operations of the Credits API.

Nothing is stored between runs: each user's existing history is read and then continued. If a write gets no usable
response, the balance shows whether it took effect. After a user's last write, the balance is compared with the planned
one, to detect a write that took effect only after it had been checked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate, islice, zip_longest
from itertools import count as count_from
from typing import NamedTuple, TypeVar

import msgspec

from fake_credits.client.server import AsyncServerClient
from fake_credits.contract import Contract
from fake_credits.errors import ApiError, FakeCreditsError, InvalidResponse, TransportFailure, UserNotFound
from fake_credits.ledger import Ledger
from fake_credits.models import Reason
from fake_credits.text import pluralize
from fake_credits.worlds.world import MAX_KEPT_TRANSACTIONS, TargetError, UserHistory, World

T = TypeVar("T")
ProgressCallback = Callable[[int], object]
DeltaAndReason = tuple[int, Reason | str]

_USER_ABSENT = -1
_RETRYABLE_STATUSES = (408, 425, 429)  # Request Timeout, Too Early, Too Many Requests
_CONFLICT_HINT = "another client is changing this user's balance, or a write whose response was lost took effect late"
_MAX_PAUSE_S = 30.0


class WorldTotals(NamedTuple):
    """The totals of a world; amounts are in credits."""

    users: int = 0
    transactions: int = 0
    granted: int = 0
    consumed: int = 0
    refunded: int = 0


class ExistingData(NamedTuple):
    """The counts of a world's users and transactions that a server already has."""

    users: int = 0
    transactions: int = 0


class RetryPolicy(msgspec.Struct, frozen=True):
    """The maximum number of attempts for each call, and the pauses between attempts, which double each time."""

    max_attempts: int = 8
    initial_pause_s: float = 0.05
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def wait(self, failure: FakeCreditsError, attempts: int, label: str) -> None:
        """Wait before a retry, honouring Retry-After up to 30 s; raise TargetError if the call shouldn't be retried."""
        is_transient, retry_after_s = isinstance(failure, TransportFailure), None
        if isinstance(failure, ApiError | InvalidResponse):
            is_transient = failure.status >= 500 or failure.status in _RETRYABLE_STATUSES
            retry_after_s = failure.retry_after_s
        if not is_transient:
            raise TargetError(f"{label}: {failure}") from failure
        if attempts >= self.max_attempts:
            raise TargetError(f"{label}: gave up after {attempts} attempts: {failure}") from failure
        await self.sleep(min(max(self.initial_pause_s * 2 ** (attempts - 1), retry_after_s or 0), _MAX_PAUSE_S))


def compute_totals(world: World, contract: Contract, application_id: str, on_progress: ProgressCallback) -> WorldTotals:
    """Return a world's totals; raise WorldError if the world can't be generated or violates the contract.

    ``on_progress`` is called with each user's number of transactions.
    """
    sums = dict.fromkeys(Reason, 0)
    users = transactions = 0
    for account in world.build_accounts(Ledger(contract), application_id):
        on_progress(len(account))
        users, transactions = users + 1, transactions + len(account)
        for row in account.entries():
            sums[row.reason] += row.delta
    return WorldTotals(users, transactions, sums[Reason.GRANT], -sums[Reason.CONSUME], sums[Reason.REFUND])


class Seeder:
    """A seeder that writes a world's users and histories to one application on a server.

    First call `scan`, which only reads, then `create` and `write_transactions`, which write what is missing. All three
    raise TargetError if the server rejects a call or can't be reached; `scan` and `write_transactions` also raise it if
    a user's history or balance conflicts with the plan. Up to ``concurrency`` users are processed concurrently; each
    user's transactions are written in order.
    """

    def __init__(
        self, world: World, target: "Target", *, concurrency: int = 8, retry_policy: RetryPolicy | None = None
    ) -> None:
        self._world = world
        self._target = target
        self._concurrency = concurrency
        self._retry_policy = retry_policy or RetryPolicy()
        self._existing_counts: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Seeder of {self._world!r}>"

    async def scan(self, on_progress: ProgressCallback) -> ExistingData:
        """Count the users and transactions that already exist; ``on_progress`` is called for each user."""

        async def scan_user(index: int, user: "_UserSeeder") -> None:
            # The first call must reach the server, so that a wrong URL is reported immediately.
            self._existing_counts[index] = await user.count_existing(must_connect=index == 0)
            on_progress(1)

        self._existing_counts.clear()
        histories = enumerate(self._world.histories())
        await self._for_each_user(islice(histories, 1), scan_user)
        await self._for_each_user(histories, scan_user)
        counts = self._existing_counts.values()
        return ExistingData(
            sum(count != _USER_ABSENT for count in counts), sum(count for count in counts if count != _USER_ABSENT)
        )

    async def create(self, on_progress: ProgressCallback) -> None:
        """Create the users that `scan` did not find, roughly in order; ``on_progress`` is called for each."""

        async def create_user(index: int, user: "_UserSeeder") -> None:
            if self._existing_counts[index] == _USER_ABSENT:
                await user.create_user()
                on_progress(1)

        await self._for_each_user(enumerate(self._world.histories()), create_user)

    async def write_transactions(self, on_progress: ProgressCallback) -> None:
        """Write the transactions that `scan` did not find; ``on_progress`` is called for each."""

        async def write_user(index: int, user: "_UserSeeder") -> None:
            existing = self._existing_counts[index]
            if existing < len(user.planned):
                await user.write_missing(existing, on_progress)

        numbered: Iterator[tuple[int, UserHistory]] = enumerate(self._world.histories())
        if self._world.transaction_count <= MAX_KEPT_TRANSACTIONS:
            # Longest first, so that no long history is left to run alone at the end.
            numbered = iter(sorted(numbered, key=lambda item: -len(item[1].columns.deltas)))
        await self._for_each_user(numbered, write_user)

    async def _for_each_user(
        self, histories: Iterator[tuple[int, UserHistory]], work: Callable[[int, "_UserSeeder"], Awaitable[None]]
    ) -> None:
        async def worker() -> None:
            for index, history in histories:  # shared by all workers
                await work(index, _UserSeeder(self._target, self._retry_policy, history))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(worker())
        except ExceptionGroup as errors:
            first = errors.exceptions[0]
            raise first from first.__cause__


class Target(msgspec.Struct, frozen=True):
    """An application on a server, and the server's contract."""

    client: AsyncServerClient
    application_id: str
    contract: Contract


class _UserSeeder:
    """A writer of one user's history."""

    def __init__(self, target: Target, retry_policy: RetryPolicy, history: UserHistory) -> None:
        self._target = target
        self._retry_policy = retry_policy
        self._id = history.user_id
        self.planned: list[DeltaAndReason] = [(delta, reason) for delta, reason, _ in history.columns.entries()]
        self._balances = [0, *accumulate(history.columns.deltas)]

    async def count_existing(self, *, must_connect: bool = False) -> int:
        """Return how many of the planned transactions exist, or `_USER_ABSENT` if the user does not exist.

        With ``must_connect``, a call that gets no response at all is not retried.
        """

        async def count() -> int:
            try:
                return await self._read_existing_count()
            except TransportFailure as failure:
                if must_connect and not isinstance(failure, InvalidResponse):
                    raise TargetError(str(failure)) from failure
                raise

        return await self._with_retries(count)

    async def create_user(self) -> None:
        """Create the user; repeating the call is harmless."""
        target = self._target
        await self._with_retries(lambda: target.client.create_user(target.application_id, self._id))

    async def write_missing(self, count: int, on_progress: ProgressCallback) -> None:
        """Write the transactions after the first ``count``, and check that the final balance is as planned."""
        if count == _USER_ABSENT:
            count = 0
        else:  # count again: the last write of an interrupted run may have taken effect after the scan
            existing = max(await self.count_existing(), 0)
            on_progress(existing - count)
            count = existing
        for index in range(count, len(self.planned)):
            await self._write_one(index)
            on_progress(1)
        if await self._get_balance() != self._balances[-1]:
            raise await self._conflict(len(self.planned))

    async def _write_one(self, index: int) -> None:
        """Execute one planned transaction exactly once, even if responses are lost.

        If the response is lost, the balance shows whether the write took effect, because every transaction changes it.
        """
        target, (delta, reason) = self._target, self.planned[index]
        for attempts in count_from(1):
            try:
                await target.client.create_transaction(target.application_id, self._id, delta=delta, reason=reason)
            except FakeCreditsError as failure:
                await self._retry_policy.wait(failure, attempts, f"user {self._id!r}, transaction {index + 1}")
                balance = await self._get_balance()
                if balance == self._balances[index]:
                    continue
                if balance != self._balances[index + 1]:
                    raise await self._conflict(index + 1) from None
            return

    async def _get_balance(self) -> int:
        target = self._target
        return (await self._with_retries(lambda: target.client.get_balance(target.application_id, self._id))).balance

    async def _conflict(self, number: int) -> TargetError:
        """Return the error for an unexpected balance; raise a more specific error if the history differs too."""
        existing, balance = await self.count_existing(), await self._get_balance()
        count = pluralize(max(existing, 0), "transaction")
        found = f"user {self._id!r} has {count} and a balance of {balance}"
        return TargetError(
            f"{found}, but a balance of {self._balances[number]} was expected after transaction {number}: "
            f"{_CONFLICT_HINT}"
        )

    async def _read_existing_count(self) -> int:
        target = self._target
        try:
            existing: list[DeltaAndReason] = [
                (transaction.delta, transaction.reason)
                async for transaction in target.client.iter_transactions(target.application_id, self._id)
            ]
        except UserNotFound:
            return _USER_ABSENT
        if target.contract.transactions_order == "newest_first":
            existing.reverse()
        if existing != self.planned[: len(existing)]:
            raise TargetError(
                f"the existing history of user {self._id!r} does not match the start of the plan: "
                f"{self._first_difference(existing)}"
            )
        return len(existing)

    def _first_difference(self, existing: list[DeltaAndReason]) -> str:
        for number, (found, expected) in enumerate(zip_longest(existing, self.planned), 1):
            if found != expected:
                planned = "no more transactions" if expected is None else f"{expected[0]} {expected[1]}"
                return f"transaction {number} is {found[0]} {found[1]}, but the plan has {planned}"
        raise AssertionError("the histories do not differ")

    async def _with_retries(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of an idempotent call, retrying it after failures."""
        for attempts in count_from(1):
            try:
                return await call()
            except FakeCreditsError as failure:
                await self._retry_policy.wait(failure, attempts, f"user {self._id!r}")
        raise AssertionError("unreachable: the retry policy eventually raises")
