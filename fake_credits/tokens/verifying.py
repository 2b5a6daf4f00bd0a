"""Own whether a user's token is good, and whose it is; know nothing of requests, sandboxes or the wall clock.

The order of the steps is README's, "Users' tokens" (RFC 7519, section 7.2); those up to the signature are
`fake_credits.tokens.jws`'s.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, cast

from fake_credits.clock import MAX_TIMESTAMP_MS
from fake_credits.errors import Forbidden, InvalidToken, TokenExpired
from fake_credits.text import short_repr
from fake_credits.tokens.jws import parse_json_object, verify_signature
from fake_credits.tokens.minting import Issuer

__all__ = ["MAX_CACHED_TOKENS", "VerifiedToken", "Verifier"]

MAX_CACHED_TOKENS: Final = 1024
"""So many verified tokens are remembered; one more empties the memory."""

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc
_MAX_DATE_S: Final = MAX_TIMESTAMP_MS // 1000

_Claims = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Be a token that was good when it was verified: whose it is, who issued it, and all that it says."""

    user_id: str
    issuer: str
    claims: Mapping[str, object] = field(repr=False)

    def require_user(self, user_id: str) -> None:
        """Raise Forbidden (reason: ``other_user``) unless the token is this user's."""
        if self.user_id != user_id:
            raise Forbidden(
                f"the token is {short_repr(self.user_id)}'s; it does not open the data of {short_repr(user_id)}",
                auth_reason="other_user",
            )


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    token: VerifiedToken
    issuer: Issuer
    valid_from_ms: int
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class _TokenCache:
    """Remember verified tokens for as long as the key sources' generations stay what they were."""

    generations: tuple[int, ...]
    entries: dict[str, _CacheEntry] = field(default_factory=dict[str, _CacheEntry], repr=False)


class Verifier:
    """Verify users' tokens against a set of issuers; safe in threads.

    Raises ValueError where two issuers have one URL.
    """

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._issuers = tuple(issuers)
        self._by_url = {issuer.url: issuer for issuer in issuers}
        if len(self._by_url) < len(self._issuers):
            raise ValueError(f"issuers must differ by URL: {', '.join(issuer.url for issuer in issuers)}")
        self._sources = tuple({id(issuer.keys): issuer.keys for issuer in issuers}.values())
        self._cache: _TokenCache | None = None

    def __repr__(self) -> str:
        return f"<Verifier of {len(self._issuers)} issuers, {len(self._current_cache().entries)} tokens remembered>"

    def verify(self, token: str, now_ms: int) -> VerifiedToken:
        """Return what a good token says at ``now_ms`` (ms since 1970, the sandbox's clock).

        Raise TokenExpired (reason: ``expired``) for a genuine token past its end, else InvalidToken, whose
        ``auth_reason`` names the failed step. A repeated token costs a lookup: its times are compared each time,
        the rest once.
        """
        cache = self._current_cache()
        entry = cache.entries.get(token)
        if entry is None:
            entry = self._verify_uncached(token, now_ms)
            if len(cache.entries) >= MAX_CACHED_TOKENS:
                cache.entries.clear()
            # Into the memory of before: if a key was retired meanwhile, that one is no longer read.
            cache.entries[token] = entry
        elif not entry.valid_from_ms <= now_ms < entry.valid_until_ms:
            _check_times(entry.token.claims, entry.issuer, now_ms)
        return entry.token

    def _current_cache(self) -> _TokenCache:
        generations = tuple([source.generation for source in self._sources])
        cache = self._cache
        if cache is None or cache.generations != generations:
            cache = self._cache = _TokenCache(generations)
        return cache

    def _verify_uncached(self, token: str, now_ms: int) -> _CacheEntry:
        signed = verify_signature(token, self._issuers)
        claims = MappingProxyType(parse_json_object(signed.payload, "payload"))
        issuer = self._find_issuer(claims)
        if not signed.is_signed_by(issuer):
            raise InvalidToken(
                f"the token's key {short_repr(signed.key.kid)} ({signed.algorithm}) is not one of "
                f"{short_repr(issuer.url)}'s",
                auth_reason="key_of_another_issuer",
            )
        valid_from_ms, valid_until_ms = _check_times(claims, issuer, now_ms)
        _check_audience(claims, issuer)
        _check_authorized_party(claims, issuer)
        return _CacheEntry(
            VerifiedToken(_read_user_id(claims, issuer), issuer.url, claims), issuer, valid_from_ms, valid_until_ms
        )

    def _find_issuer(self, claims: _Claims) -> Issuer:
        url = claims.get("iss")
        issuer = self._by_url.get(url) if isinstance(url, str) else None
        if issuer is None:
            trusted = " or ".join(short_repr(trusted_url) for trusted_url in self._by_url) or "nobody"
            raise InvalidToken(
                f"the token's iss is {short_repr(url)}; this sandbox trusts {trusted}", auth_reason="wrong_issuer"
            )
        return issuer


def _check_times(claims: _Claims, issuer: Issuer, now_ms: int) -> tuple[int, int]:
    """Return from when on, and until before when, the token is good; raise where now is outside (RFC 7519, 4.1.4-6)."""
    leeway_s = issuer.leeway_s
    exp = _numeric_date(claims, "exp")
    if exp is None:
        raise InvalidToken("the token has no exp: a token without an end is never accepted", auth_reason="missing_exp")
    valid_until_ms = math.ceil((exp + leeway_s) * 1000)
    if now_ms >= valid_until_ms:
        ago_s = math.floor(now_ms / 1000 - exp)
        raise TokenExpired(
            f"the token expired {_format_seconds(ago_s)} ago by the sandbox's clock", auth_reason="expired"
        )
    not_before_ms = _valid_from_ms(claims, "nbf", leeway_s)
    if now_ms < not_before_ms:
        wait = _format_seconds((not_before_ms - now_ms) // 1000 + leeway_s)
        raise InvalidToken(f"the token is not valid for {wait} yet by the sandbox's clock", auth_reason="not_yet_valid")
    issued_ms = _valid_from_ms(claims, "iat", leeway_s)
    if now_ms < issued_ms:
        ahead = _format_seconds((issued_ms - now_ms) // 1000 + leeway_s)
        raise InvalidToken(
            f"the token was issued {ahead} in the sandbox clock's future", auth_reason="issued_in_future"
        )
    return max(not_before_ms, issued_ms), valid_until_ms


def _valid_from_ms(claims: _Claims, name: str, leeway_s: int) -> int:
    date = _numeric_date(claims, name)
    return 0 if date is None else math.ceil((date - leeway_s) * 1000)


def _numeric_date(claims: _Claims, name: str) -> int | float | None:
    """Return a time claim in seconds since 1970, or None; raise InvalidToken for what is none of the years to 9999."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"the token's {name} is {short_repr(value)}, not a number", auth_reason=f"malformed_{name}")
    if not -_MAX_DATE_S <= value <= _MAX_DATE_S:
        raise InvalidToken(
            f"the token's {name} is outside the years that dates can say", auth_reason=f"malformed_{name}"
        )
    return value


def _check_audience(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken for a token that is for others (RFC 7519, section 4.1.3)."""
    accepted = issuer.audience
    if accepted is None or (not accepted and "aud" not in claims):
        return
    aud = claims.get("aud")
    names = cast("list[object]", aud) if isinstance(aud, list) else [aud]
    if all(isinstance(name, str) for name in names) and any(name in accepted for name in names):
        return
    expected = (
        " or ".join(short_repr(name) for name in accepted)
        or "a token without aud (its issuer has no audience configured)"
    )
    raise InvalidToken(
        f"the token's aud is {short_repr(claims.get('aud'))}; this sandbox wants {expected}",
        auth_reason="wrong_audience",
    )


def _check_authorized_party(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken for a token that was given to another party, where the issuer lists parties."""
    if issuer.authorized_parties and claims.get("azp") not in issuer.authorized_parties:
        expected = " or ".join(short_repr(party) for party in issuer.authorized_parties)
        raise InvalidToken(
            f"the token's azp is {short_repr(claims.get('azp'))}; this sandbox wants {expected}",
            auth_reason="wrong_azp",
        )


def _read_user_id(claims: _Claims, issuer: Issuer) -> str:
    name = issuer.user_claim
    value = claims.get(name)
    if value is None:
        raise InvalidToken(f"the token has no {name}, which names its user", auth_reason="missing_user")
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= issuer.max_user_id_chars
        or _CONTROL_CHARACTER.search(value)
    ):
        raise InvalidToken(
            f"the token's {name} is {short_repr(value)}: "
            f"a user's id is a string of 1 to {issuer.max_user_id_chars} characters, "
            "without control characters",
            auth_reason="malformed_user",
        )
    return value


def _format_seconds(count: int) -> str:
    return f"{count:,} s".replace(",", " ")
