"""Generated histories: determinism, size, validity, and the distributions of a profile."""

import hashlib
from collections import Counter
from itertools import accumulate

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fake_credits.ledger import REASON_CODES, TransactionColumns
from fake_credits.worlds.generator import GeneratedUser, generate_histories
from fake_credits.worlds.profiles import PROFILES, Profile
from fake_credits.worlds.world import WORLD_SPAN_MS, WorldError
from tests.worlds.conftest import CONSUME, GRANT, REFUND

DEMO_USERS = tuple(generate_histories(PROFILES["demo"], 0))
DAY_MS = 86_400_000


def list_rows(user: GeneratedUser) -> list[tuple[int, str, int]]:
    return [(delta, reason.value, at) for delta, reason, at in user.columns.entries()]


def list_consumptions(columns: TransactionColumns) -> list[tuple[int, int]]:
    return [(-delta, at) for delta, reason, at in columns.entries() if reason is CONSUME]


def test_generator_output_is_stable() -> None:
    """A change to this digest requires a new `GENERATOR_VERSION` and a line in the changelog."""
    digest = hashlib.sha256()
    for user in DEMO_USERS:
        digest.update(ascii((user.id_bits, user.created_ms, list_rows(user))).encode())
    assert digest.hexdigest() == "1f683f9e52c423e8a5560e67f31260fbc3db96b69d8afc5321ed67989d9f5e8f"


def test_seed_and_profile_name_change_the_data() -> None:
    tiny = PROFILES["tiny"]
    first = list(generate_histories(tiny, 0))
    assert first == list(generate_histories(tiny, 0))
    assert first != list(generate_histories(tiny, 1))
    assert first != list(generate_histories(Profile(name="other", users=tiny.users, transactions=tiny.transactions), 0))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**64),
    users=st.integers(1, 12),
    transactions_per_user=st.integers(3, 60),
    shares=st.sampled_from([(0, 0), (1, 0), (0, 1), (0.5, 0.5), (0.15, 0.15)]),
    grants=st.sampled_from([(100, 50, 200), (1, 0, 1), (5, 3, 4)]),
    sizes=st.sampled_from([(1, 500), (3, 3), (10, 1000)]),
)
def test_any_profile_yields_the_requested_number_of_valid_transactions(
    seed: int,
    users: int,
    transactions_per_user: int,
    shares: tuple[float, float],
    grants: tuple[int, int, int],
    sizes: tuple[int, int],
) -> None:
    profile = Profile(
        name="any",
        users=users,
        transactions=users * transactions_per_user,
        dry_share=shares[0],
        gone_share=shares[1],
        signup_grant=grants[0],
        monthly_grant=grants[1],
        top_up=grants[2],
        smallest_consumption=sizes[0],
        largest_consumption=sizes[1],
    )
    generated_users = list(generate_histories(profile, seed))
    assert (len(generated_users), sum(len(user.columns.deltas) for user in generated_users)) == (
        users,
        users * transactions_per_user,
    )
    assert [user.created_ms for user in generated_users] == sorted(user.created_ms for user in generated_users)
    for user in generated_users:
        deltas, codes, times = user.columns
        assert min(accumulate(deltas)) >= 0
        assert list(times) == sorted(times)
        assert times[0] == user.created_ms >= 0
        assert times[-1] < WORLD_SPAN_MS
        assert all((delta < 0) == (code == REASON_CODES[CONSUME]) for delta, code in zip(deltas, codes, strict=True))


def test_users_get_a_signup_grant_and_monthly_grants() -> None:
    longest = max(DEMO_USERS, key=lambda user: user.columns.times[-1] - user.created_ms)
    grants = [
        (delta, at - longest.created_ms)
        for delta, reason, at in list_rows(longest)
        if reason == "grant" and delta != 200
    ]
    assert grants == [(100, 0), *((50, 30 * DAY_MS * month) for month in range(1, len(grants)))]
    assert len(grants) > 6
    assert all(user.columns.deltas[0] == 100 for user in DEMO_USERS)


def test_refund_follows_its_consumption() -> None:
    refund_count = 0
    for user in DEMO_USERS:
        for before, after in zip(list_rows(user), list_rows(user)[1:], strict=False):
            if after[1] == REFUND:
                assert (before[1], before[0]) == ("consume", -after[0])
                refund_count += 1
    assert 0.03 < refund_count / sum(len(list_consumptions(user.columns)) for user in DEMO_USERS) < 0.05


def test_consumption_is_higher_by_day_and_on_weekdays() -> None:
    times_ms = [at for user in DEMO_USERS for _, at in list_consumptions(user.columns)]
    hours, days = Counter(at // 3_600_000 % 24 for at in times_ms), Counter(at // DAY_MS % 7 for at in times_ms)
    assert sum(hours[hour] for hour in range(9, 18)) > 8 * sum(hours[hour] for hour in range(6))
    assert min(days[day] for day in range(5)) > 2 * max(days[5], days[6])


def test_consumption_sizes_have_a_heavy_tail() -> None:
    sizes = sorted(size for user in DEMO_USERS for size, _ in list_consumptions(user.columns))
    assert sizes[len(sizes) // 2] <= 2
    assert sum(sizes[-len(sizes) // 10 :]) > sum(sizes) / 2


def test_transaction_counts_have_a_heavy_tail() -> None:
    counts = sorted(len(user.columns.deltas) for user in DEMO_USERS)
    assert counts[-1] > 5 * counts[len(counts) // 2]


def test_some_users_run_out_of_credits_and_some_become_inactive() -> None:
    users_without_credits = [user for user in DEMO_USERS if sum(user.columns.deltas) == 0]
    inactive_users = [user for user in DEMO_USERS if user.columns.times[-1] - user.created_ms <= 3_600_000]
    assert 0.1 < len(users_without_credits) / len(DEMO_USERS) < 0.25
    assert 0.1 < len(inactive_users) / len(DEMO_USERS) < 0.25
    assert all(len(user.columns.deltas) <= 3 for user in inactive_users)
    assert all(user.columns.times[-1] < WORLD_SPAN_MS - DAY_MS for user in users_without_credits[:10])
    assert any(reason == GRANT and delta == 200 for user in DEMO_USERS for delta, reason, _ in list_rows(user))


def test_profile_without_enough_grants_raises_world_error() -> None:
    profile = Profile(name="poor", users=5, transactions=1_000, signup_grant=10, monthly_grant=0, top_up=0)
    with pytest.raises(
        WorldError, match="profile 'poor' can't be satisfied: user 1 of 5 would consume more than was granted"
    ):
        list(generate_histories(profile, 0))


def test_profile_without_users_yields_no_histories() -> None:
    assert list(generate_histories(PROFILES["edge"], 0)) == []
