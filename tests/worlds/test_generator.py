"""What users do: the same from the same key, lawful, of exact size, and as believable as the profile says."""

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

DEMO = tuple(generate_histories(PROFILES["demo"], 0))
DAY_MS = 86_400_000


def rows(plan: GeneratedUser) -> list[tuple[int, str, int]]:
    return [(delta, reason.value, at) for delta, reason, at in plan.columns.entries()]


def consumptions(columns: TransactionColumns) -> list[tuple[int, int]]:
    return [(-delta, at) for delta, reason, at in columns.entries() if reason is CONSUME]


def test_a_seed_and_a_profile_always_give_the_same_data() -> None:
    """The digest is written down here: a change of it is another `GENERATOR_VERSION`, and a line of the changelog."""
    digest = hashlib.sha256()
    for plan in DEMO:
        digest.update(ascii((plan.id_bits, plan.created_ms, rows(plan))).encode())
    assert digest.hexdigest() == "1f683f9e52c423e8a5560e67f31260fbc3db96b69d8afc5321ed67989d9f5e8f"


def test_another_seed_and_another_name_give_other_data() -> None:
    tiny = PROFILES["tiny"]
    same = list(generate_histories(tiny, 0))
    assert same == list(generate_histories(tiny, 0))
    assert same != list(generate_histories(tiny, 1))
    assert same != list(generate_histories(Profile(name="other", users=tiny.users, transactions=tiny.transactions), 0))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**64),
    users=st.integers(1, 12),
    each=st.integers(3, 60),
    shares=st.sampled_from([(0, 0), (1, 0), (0, 1), (0.5, 0.5), (0.15, 0.15)]),
    grants=st.sampled_from([(100, 50, 200), (1, 0, 1), (5, 3, 4)]),
    sizes=st.sampled_from([(1, 500), (3, 3), (10, 1000)]),
)
def test_any_profile_gives_the_promised_number_of_lawful_transactions(
    seed: int, users: int, each: int, shares: tuple[float, float], grants: tuple[int, int, int], sizes: tuple[int, int]
) -> None:
    profile = Profile(
        name="any",
        users=users,
        transactions=users * each,
        dry_share=shares[0],
        gone_share=shares[1],
        signup_grant=grants[0],
        monthly_grant=grants[1],
        top_up=grants[2],
        smallest_consumption=sizes[0],
        largest_consumption=sizes[1],
    )
    planned = list(generate_histories(profile, seed))
    assert (len(planned), sum(len(plan.columns.deltas) for plan in planned)) == (users, users * each)
    assert [plan.created_ms for plan in planned] == sorted(plan.created_ms for plan in planned)
    for plan in planned:
        deltas, codes, times = plan.columns
        assert min(accumulate(deltas)) >= 0
        assert list(times) == sorted(times)
        assert times[0] == plan.created_ms >= 0
        assert times[-1] < WORLD_SPAN_MS
        assert all((delta < 0) == (code == REASON_CODES[CONSUME]) for delta, code in zip(deltas, codes, strict=True))


def test_everybody_begins_with_the_sign_up_grant_and_gets_one_each_month() -> None:
    longest = max(DEMO, key=lambda plan: plan.columns.times[-1] - plan.created_ms)
    grants = [
        (delta, at - longest.created_ms) for delta, reason, at in rows(longest) if reason == "grant" and delta != 200
    ]
    assert grants == [(100, 0), *((50, 30 * DAY_MS * month) for month in range(1, len(grants)))]
    assert len(grants) > 6
    assert all(plan.columns.deltas[0] == 100 for plan in DEMO)


def test_a_refund_follows_the_consumption_that_it_gives_back() -> None:
    found = 0
    for plan in DEMO:
        for before, after in zip(rows(plan), rows(plan)[1:], strict=False):
            if after[1] == REFUND:
                assert (before[1], before[0]) == ("consume", -after[0])
                found += 1
    assert 0.03 < found / sum(len(consumptions(plan.columns)) for plan in DEMO) < 0.05


def test_more_is_consumed_by_day_than_by_night_and_on_weekdays_than_at_the_weekend() -> None:
    moments = [at for plan in DEMO for _, at in consumptions(plan.columns)]
    hours, days = Counter(at // 3_600_000 % 24 for at in moments), Counter(at // DAY_MS % 7 for at in moments)
    assert sum(hours[hour] for hour in range(9, 18)) > 8 * sum(hours[hour] for hour in range(6))
    assert min(days[day] for day in range(5)) > 2 * max(days[5], days[6])


def test_consumption_has_a_heavy_tail() -> None:
    sizes = sorted(size for plan in DEMO for size, _ in consumptions(plan.columns))
    assert sizes[len(sizes) // 2] <= 2
    assert sum(sizes[-len(sizes) // 10 :]) > sum(sizes) / 2


def test_few_users_have_many_transactions() -> None:
    counts = sorted(len(plan.columns.deltas) for plan in DEMO)
    assert counts[-1] > 5 * counts[len(counts) // 2]


def test_some_ran_dry_with_their_last_transaction_and_some_never_came_back() -> None:
    dry = [plan for plan in DEMO if sum(plan.columns.deltas) == 0]
    gone = [plan for plan in DEMO if plan.columns.times[-1] - plan.created_ms <= 3_600_000]
    assert 0.1 < len(dry) / len(DEMO) < 0.25
    assert 0.1 < len(gone) / len(DEMO) < 0.25
    assert all(len(plan.columns.deltas) <= 3 for plan in gone)
    assert all(plan.columns.times[-1] < WORLD_SPAN_MS - DAY_MS for plan in dry[:10])
    assert any(reason == GRANT and delta == 200 for plan in DEMO for delta, reason, _ in rows(plan))


def test_a_profile_whose_users_would_consume_more_than_is_granted_is_refused() -> None:
    profile = Profile(name="poor", users=5, transactions=1_000, signup_grant=10, monthly_grant=0, top_up=0)
    with pytest.raises(WorldError, match="profile 'poor' can't be met: user 0 of 5 would consume more than is granted"):
        list(generate_histories(profile, 0))


def test_users_of_no_number_do_nothing() -> None:
    assert list(generate_histories(PROFILES["edge"], 0)) == []
