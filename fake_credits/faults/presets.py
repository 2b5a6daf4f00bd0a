"""Own the bad days that have a name: a few rules each, with the numbers that public reports of such days give."""

from collections.abc import Mapping
from dataclasses import dataclass

from fake_credits.faults.checks import FaultError
from fake_credits.faults.effects import Close, Drift, Latency, NotJson, RateLimit, Reset, Stale, Status, Truncate
from fake_credits.faults.latency import Lognormal
from fake_credits.faults.reading import rule_from
from fake_credits.faults.rule import Rule, lost_response

__all__ = ["PRESETS", "Preset", "preset_rules"]


@dataclass(frozen=True)
class Preset:
    """Be a bad day: what goes wrong, in a sentence, and its rules."""

    explains: str
    rules: tuple[Rule, ...]


PRESETS: Mapping[str, Preset] = {
    "flaky": Preset(
        "5 calls in 100 fail: 3 with 503, 1 with a reset before the call took effect, 1 with a reset after it.",
        (
            Rule(effect=Status(503), probability=0.03),
            Rule(effect=Reset(), probability=0.01),
            Rule(effect=Reset(), phase="after", probability=0.01),
        ),
    ),
    "slow": Preset(
        "Every call takes 300 ms in the middle, and 1 in 100 takes 3 s or more.",
        (Rule(effect=Latency(Lognormal(300, 3000))),),
    ),
    "brownout": Preset(
        "Overload: calls take 1 s in the middle and 10 s at worst; 25 in 100 get 503 with Retry-After 5, 5 get 504.",
        (
            Rule(effect=Latency(Lognormal(1000, 8000, 10_000))),
            Rule(effect=Status(503, retry_after_s=5), probability=0.25),
            Rule(effect=Status(504), probability=0.05),
        ),
    ),
    "outage": Preset(
        "Every call gets 503 with Retry-After 30.",
        (Rule(effect=Status(503, retry_after_s=30)),),
    ),
    "rate_limited": Preset(
        "10 calls in any 10 s; further ones get 429 with Retry-After.",
        (Rule(effect=RateLimit(limit=10, window_s=10)),),
    ),
    "lost_responses": Preset(
        "20 writes in 100 take effect and their answers are lost: 10 reset, 5 closed, 5 turned into 504.",
        (
            rule_from(lost_response(), probability=0.1),
            rule_from(lost_response(Close()), probability=0.05),
            rule_from(lost_response(Status(504)), probability=0.05),
        ),
    ),
    "stale_replica": Preset(
        "Balance and history lack what was written in the last 2 s.",
        (Rule(effect=Stale(by_ms=2000)),),
    ),
    "bad_proxy": Preset(
        "10 answers in 100 are a proxy's: 5 pages of HTML with 502, 2 empty ones, 1 behind a BOM, 1 cut, 1 closed.",
        (
            Rule(effect=NotJson(), probability=0.05),
            Rule(effect=NotJson(502, "empty"), probability=0.02),
            Rule(effect=NotJson(502, "bom"), probability=0.01),
            Rule(effect=Truncate(), probability=0.01),
            Rule(effect=Close(), probability=0.01),
        ),
    ),
    "version_ahead": Preset(
        "Answers have new members and reasons, null where there was nothing, and no createdAt.",
        (
            Rule(effect=Drift("extra_field"), stack=True),
            Rule(effect=Drift("unknown_reason"), stack=True),
            Rule(effect=Drift("null_for_absent"), stack=True),
            Rule(effect=Drift("missing_optional"), stack=True),
        ),
    ),
}
"""Every preset by its name."""


def preset_rules(name: object) -> tuple[Rule, ...]:
    """Return the rules of a preset; raise FaultError, with all names, where there is none."""
    if not isinstance(name, str) or name not in PRESETS:
        raise FaultError(f"there is no preset {name!r}: choose {', '.join(PRESETS)}, or a file *.toml")
    return PRESETS[name].rules
