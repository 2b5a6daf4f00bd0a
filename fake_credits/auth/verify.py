"""Own whether a user's token is good, and whose it is; know nothing of requests, sandboxes or the wall clock.

The order of the steps is README's, "Users' tokens" (RFC 7519, section 7.2); those up to the signature are
`fake_credits.auth.jws`'s.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, cast

from fake_credits.auth.issuers import Issuer
from fake_credits.auth.jws import read_object, shown, verify_signature
from fake_credits.clock import LATEST_MS
from fake_credits.errors import Forbidden, InvalidToken, TokenExpired

__all__ = ["CACHE_LIMIT", "VerifiedToken", "Verifier"]

CACHE_LIMIT: Final = 1024
"""So many verified tokens are remembered; one more empties the memory."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc
_LATEST_S: Final = LATEST_MS // 1000

_Claims = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Be a token that was good when it was verified: whose it is, who issued it, and all that it says."""

    user_id: str
    issuer: str
    claims: Mapping[str, object] = field(repr=False)

    def require_user(self, user_id: str) -> None:
        """Raise Forbidden (why: ``other_user``) unless the token is this user's."""
        if self.user_id != user_id:
            raise Forbidden(
                f"the token is {shown(self.user_id)}'s; it does not open the data of {shown(user_id)}", why="other_user"
            )


@dataclass(frozen=True, slots=True)
class _Known:
    token: VerifiedToken
    issuer: Issuer
    opens_ms: int
    closes_ms: int


@dataclass(frozen=True, slots=True)
class _Memory:
    """Remember verified tokens for as long as the key sources' generations stay what they were."""

    generations: tuple[int, ...]
    tokens: dict[str, _Known] = field(default_factory=dict[str, _Known], repr=False)


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
        self._memory: _Memory | None = None

    def __repr__(self) -> str:
        return f"<Verifier of {len(self._issuers)} issuers, {len(self._current_memory().tokens)} tokens remembered>"

    def verify(self, token: str, now_ms: int) -> VerifiedToken:
        """Return what a good token says at ``now_ms`` (ms since 1970, the sandbox's clock).

        Raise TokenExpired (why: ``expired``) for a genuine token past its end, else InvalidToken, whose ``why``
        names the failed step. A repeated token costs a lookup: its times are compared each time, the rest once.
        """
        memory = self._current_memory()
        known = memory.tokens.get(token)
        if known is None:
            known = self._verify(token, now_ms)
            if len(memory.tokens) >= CACHE_LIMIT:
                memory.tokens.clear()
            # Into the memory of before: if a key was retired meanwhile, that one is no longer read.
            memory.tokens[token] = known
        elif not known.opens_ms <= now_ms < known.closes_ms:
            _check_times(known.token.claims, known.issuer, now_ms)
        return known.token

    def _current_memory(self) -> _Memory:
        generations = tuple([source.generation for source in self._sources])
        memory = self._memory
        if memory is None or memory.generations != generations:
            memory = self._memory = _Memory(generations)
        return memory

    def _verify(self, token: str, now_ms: int) -> _Known:
        signed = verify_signature(token, self._issuers)
        claims = MappingProxyType(read_object(signed.payload, "payload"))
        issuer = self._issuer(claims)
        if not signed.is_by(issuer):
            raise InvalidToken(
                f"the token's key {shown(signed.key.kid)} ({signed.algorithm}) is not one of {shown(issuer.url)}'s",
                why="key_of_another_issuer",
            )
        opens_ms, closes_ms = _check_times(claims, issuer, now_ms)
        _check_audience(claims, issuer)
        _check_authorized_party(claims, issuer)
        return _Known(VerifiedToken(_user_id(claims, issuer), issuer.url, claims), issuer, opens_ms, closes_ms)

    def _issuer(self, claims: _Claims) -> Issuer:
        url = claims.get("iss")
        issuer = self._by_url.get(url) if isinstance(url, str) else None
        if issuer is None:
            trusted = " or ".join(shown(known) for known in self._by_url) or "nobody"
            raise InvalidToken(f"the token's iss is {shown(url)}; this sandbox trusts {trusted}", why="wrong_issuer")
        return issuer


def _check_times(claims: _Claims, issuer: Issuer, now_ms: int) -> tuple[int, int]:
    """Return from when on, and until before when, the token is good; raise where now is outside (RFC 7519, 4.1.4-6)."""
    leeway_s = issuer.leeway_s
    exp = _numeric_date(claims, "exp")
    if exp is None:
        raise InvalidToken("the token has no exp: a token without an end is never accepted", why="missing_exp")
    closes_ms = math.ceil((exp + leeway_s) * 1000)
    if now_ms >= closes_ms:
        ago_s = math.floor(now_ms / 1000 - exp)
        raise TokenExpired(f"the token expired {_seconds(ago_s)} ago by the sandbox's clock", why="expired")
    opens_ms = _opens_ms(claims, "nbf", leeway_s)
    if now_ms < opens_ms:
        wait = _seconds((opens_ms - now_ms) // 1000 + leeway_s)
        raise InvalidToken(f"the token is not valid for {wait} yet by the sandbox's clock", why="not_yet_valid")
    issued_ms = _opens_ms(claims, "iat", leeway_s)
    if now_ms < issued_ms:
        ahead = _seconds((issued_ms - now_ms) // 1000 + leeway_s)
        raise InvalidToken(f"the token was issued {ahead} in the sandbox clock's future", why="issued_in_future")
    return max(opens_ms, issued_ms), closes_ms


def _opens_ms(claims: _Claims, name: str, leeway_s: int) -> int:
    date = _numeric_date(claims, name)
    return 0 if date is None else math.ceil((date - leeway_s) * 1000)


def _numeric_date(claims: _Claims, name: str) -> int | float | None:
    """Return a time claim in seconds since 1970, or None; raise InvalidToken for what is none of the years to 9999."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"the token's {name} is {shown(value)}, not a number", why=f"malformed_{name}")
    if not -_LATEST_S <= value <= _LATEST_S:
        raise InvalidToken(f"the token's {name} is outside the years that dates can say", why=f"malformed_{name}")
    return value


def _check_audience(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken for a token that is for others (RFC 7519, section 4.1.3)."""
    own = issuer.audience
    if own is None or (not own and "aud" not in claims):
        return
    aud = claims.get("aud")
    names = cast("list[object]", aud) if isinstance(aud, list) else [aud]
    if all(isinstance(name, str) for name in names) and any(name in own for name in names):
        return
    wanted = " or ".join(shown(name) for name in own) or "a token without aud (its issuer has no audience configured)"
    raise InvalidToken(
        f"the token's aud is {shown(claims.get('aud'))}; this sandbox wants {wanted}", why="wrong_audience"
    )


def _check_authorized_party(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken for a token that was given to another party, where the issuer lists parties."""
    if issuer.authorized_parties and claims.get("azp") not in issuer.authorized_parties:
        wanted = " or ".join(shown(party) for party in issuer.authorized_parties)
        raise InvalidToken(
            f"the token's azp is {shown(claims.get('azp'))}; this sandbox wants {wanted}", why="wrong_azp"
        )


def _user_id(claims: _Claims, issuer: Issuer) -> str:
    name = issuer.user_claim
    value = claims.get(name)
    if value is None:
        raise InvalidToken(f"the token has no {name}, which names its user", why="missing_user")
    if not isinstance(value, str) or not 1 <= len(value) <= issuer.user_id_limit or _CONTROL.search(value):
        raise InvalidToken(
            f"the token's {name} is {shown(value)}: a user's id is a string of 1 to {issuer.user_id_limit} characters, "
            "without control characters",
            why="malformed_user",
        )
    return value


def _seconds(count: int) -> str:
    return f"{count:,} s".replace(",", " ")
