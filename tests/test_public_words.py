"""Test that fixtures/public_words.txt lists every public name of every surface."""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_words_script", ROOT / "scripts" / "public_words.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def public_names(script: ModuleType) -> Mapping[str, list[str]]:
    names: Mapping[str, list[str]] = script.words()
    return names


def differences(current: Mapping[str, Iterable[str]], accepted: Mapping[str, Iterable[str]]) -> str:
    """Return the removed and added names of each surface."""
    lines: list[str] = []
    for surface in dict.fromkeys([*accepted, *current]):
        before, after = set(accepted.get(surface, ())), set(current.get(surface, ()))
        changed = [f"  - {word}" for word in sorted(before - after)] + [
            f"  + {word}" for word in sorted(after - before)
        ]
        lines += [f"[{surface}]", *sorted(changed, key=lambda line: line[4:])] if changed else []
    return "\n".join(lines)


def test_public_names_match_accepted_file(script: ModuleType, public_names: Mapping[str, list[str]]) -> None:
    changed = differences(public_names, script.accepted())
    if changed:
        pytest.fail(
            "the public names differ from fixtures/public_words.txt (- is removed, + is new):\n"
            f"{changed}\nIf this is intended, run python scripts/public_words.py --write, and add it to CHANGELOG.md",
            pytrace=False,
        )


def test_accepted_file_is_formatted_by_script(script: ModuleType) -> None:
    assert script.text(script.accepted()) == script.FILE.read_text()


def test_accepted_names_are_sorted_and_unique(script: ModuleType) -> None:
    for surface, names in script.accepted().items():
        assert names == sorted(set(names)), surface


@pytest.mark.parametrize(
    ("surface", "word"),
    [
        ("Python", "fake_credits.FakeCredits.token(*: clock='sandbox')"),
        ("Python", "fake_credits.FakeCredits(*: balance)"),
        ("Python", "fake_credits.ApiError.message"),
        ("errors", "code insufficient_credits: InsufficientCredits 402"),
        ("causes", "auth:bad_signature"),
        ("pytest", "marker users="),
        ("pytest", "fixture fake_credits_server (session)"),
        ("command line", "fake-credits serve --port variable FAKE_CREDITS_PORT"),
        ("command line", "exit code 3: serve at a port that is taken"),
        ("environment", "run sets CREDITS_BASE_URL"),
        ("control plane", "POST /sandboxes body users"),
        ("control plane", "GET /sandboxes/{sandbox}/clock answers parked[].at"),
        ("control plane", "GET /sandboxes/{sandbox}/journal answers entries[].committed"),
        ("faults", "effect rate_limit window_s"),
        ("faults", "scenario changes at_s"),
        ("contract", "contract error_body = 'problem'"),
        ("worlds", "world file users[].deltas"),
        ("tokens", "bad token alg_none: auth:algorithm_not_allowed invalid_token"),
        ("API", "PUT /v1/applications/{applicationId}/users/{userId} createUser"),
    ],
)
def test_names_of_every_surface_are_found(public_names: Mapping[str, list[str]], surface: str, word: str) -> None:
    assert word in public_names[surface]


def test_every_control_plane_route_has_response_fields(
    script: ModuleType, public_names: Mapping[str, list[str]]
) -> None:
    routes = {word.rpartition(" -> ")[0] for word in public_names["control plane"] if re.search(r" -> \d+$", word)}
    answered_routes = {word.partition(" answers ")[0] for word in public_names["control plane"] if " answers " in word}
    assert answered_routes == routes


def test_differences_list_surface_and_both_names() -> None:
    text = differences({"faults": ["effect close"]}, {"faults": ["effect shut"], "worlds": []})
    assert text == "[faults]\n  + effect close\n  - effect shut"
