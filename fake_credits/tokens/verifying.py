"""Verification of users' tokens.

The steps are in the order of README, "Users' tokens": first those of JWS (RFC 7515, section 5.2; RFC 7517, section 4.5,
on ``kid``), then the claims (RFC 7519, section 7.2). Each failure has its own ``auth_reason``.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, cast

from fake_credits.clock import MAX_TIMESTAMP_MS
from fake_credits.contract import DEFAULT_CONTRACT, Contract, id_problem
from fake_credits.errors import Forbidden, InvalidToken, TokenExpired
from fake_credits.strict_json import DuplicateMember, JsonError, parse_json
from fake_credits.text import short_repr
from fake_credits.tokens.keys import KeySet, VerifyingKey
from fake_credits.tokens.minting import Issuer

__all__ = [
    "MAX_CACHED_TOKENS",
    "MAX_JSON_DEPTH",
    "MAX_TOKEN_BYTES",
    "MAX_TOKEN_HEADER_BYTES",
    "VerifiedToken",
    "Verifier",
    "parse_json_object",
    "verify_signature",
]

MAX_TOKEN_BYTES: Final = 8 * 1024
"""The maximum size of a token: front ends reject larger headers."""

MAX_TOKEN_HEADER_BYTES: Final = 2 * 1024
"""The maximum size of a decoded token header."""

MAX_JSON_DEPTH: Final = 32
"""The maximum nesting of a token's objects and arrays, so that claims can be walked recursively."""

MAX_CACHED_TOKENS: Final = 1024
"""The maximum number of cached tokens; one more empties the cache."""

_BASE64URL_PATTERN = re.compile(r"[A-Za-z0-9_-]*")
_MAX_DATE_S: Final = MAX_TIMESTAMP_MS // 1000

# RFC 7515, section 4.1: the first makes extensions mandatory, the others let a token choose its own key.
_FORBIDDEN_HEADER_MEMBERS = ("crit", "jku", "x5u", "jwk", "x5c")

_Claims = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that was valid when it was verified."""

    user_id: str
    issuer: str
    claims: Mapping[str, object] = field(repr=False)

    def require_user(self, user_id: str) -> None:
        """Raise Forbidden (reason: ``other_user``) unless the token is for this user."""
        if self.user_id != user_id:
            raise Forbidden(
                f"the token is for user {short_repr(self.user_id)}, not for {short_repr(user_id)}",
                auth_reason="other_user",
            )


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    token: VerifiedToken
    issuer: Issuer
    valid_from_ms: int
    valid_until_ms: int


class Verifier:
    """A thread-safe verifier of users' tokens, for a set of issuers and a contract's rules for ids.

    Raises ValueError if two issuers have the same URL.
    """

    def __init__(self, issuers: Sequence[Issuer], contract: Contract = DEFAULT_CONTRACT) -> None:
        self._contract = contract
        self._by_url = {issuer.url: issuer for issuer in issuers}
        if len(self._by_url) < len(issuers):
            raise ValueError(f"issuers must have different URLs: {', '.join(issuer.url for issuer in issuers)}")
        self._issuers = tuple(issuers)
        self._key_sets = tuple({id(issuer.keys): issuer.keys for issuer in issuers}.values())
        self._cache: tuple[list[int], dict[str, _CacheEntry]] = ([], {})

    def __repr__(self) -> str:
        return f"<Verifier of {len(self._issuers)} issuers, {len(self._cache[1])} tokens cached>"

    def verify(self, token: str, now_ms: int) -> VerifiedToken:
        """Return a token that is valid at ``now_ms`` (ms since 1970, on the sandbox's clock).

        Raises TokenExpired (reason: ``expired``) for a genuine token that has expired, otherwise InvalidToken, whose
        ``auth_reason`` names the failed step. The result is cached, so a repeated token costs a lookup and a check of
        its times.
        """
        generations, entries = self._cache
        current = [keys.generation for keys in self._key_sets]
        if current != generations:
            _, entries = self._cache = current, {}
        entry = entries.get(token)
        if entry is None:
            entry = self._verify_uncached(token, now_ms)
            if len(entries) >= MAX_CACHED_TOKENS:
                entries.clear()
            entries[token] = entry  # in the old cache, which is no longer read if a key was retired meanwhile
        elif not entry.valid_from_ms <= now_ms < entry.valid_until_ms:
            _check_times(entry.token.claims, entry.issuer, now_ms)
        return entry.token

    def _verify_uncached(self, token: str, now_ms: int) -> _CacheEntry:
        payload, key = verify_signature(token, self._issuers)
        claims = MappingProxyType(parse_json_object(payload, "payload"))
        issuer = self._find_issuer(claims)
        if key.algorithm not in issuer.algorithms or key not in issuer.keys.published_keys():
            raise InvalidToken(
                f"the token's key {short_repr(key.kid)} ({key.algorithm}) doesn't belong to {short_repr(issuer.url)}",
                auth_reason="key_of_another_issuer",
            )
        valid_from_ms, valid_until_ms = _check_times(claims, issuer, now_ms)
        _check_audience(claims, issuer)
        _check_authorized_party(claims, issuer)
        verified = VerifiedToken(_read_user_id(claims, issuer, self._contract), issuer.url, claims)
        return _CacheEntry(verified, issuer, valid_from_ms, valid_until_ms)

    def _find_issuer(self, claims: _Claims) -> Issuer:
        url = claims.get("iss")
        issuer = self._by_url.get(url) if isinstance(url, str) else None
        if issuer is None:
            trusted = " or ".join(map(short_repr, self._by_url)) or "no issuer"
            raise InvalidToken(
                f"the token's iss is {short_repr(url)}; this sandbox trusts {trusted}", auth_reason="wrong_issuer"
            )
        return issuer


def verify_signature(token: str, issuers: Sequence[Issuer]) -> tuple[bytes, VerifyingKey]:
    """Return a token's payload and the key that signed it, of any of the issuers; raise InvalidToken otherwise.

    The payload is not decoded: the caller must check that it names the key's issuer.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"the token has {len(token)} bytes, over {MAX_TOKEN_BYTES}", auth_reason="oversize")
    segments = token.split(".")
    if len(segments) != 3:
        raise InvalidToken(f"the token has {len(segments)} segments; a JWT has three", auth_reason="malformed_segments")
    header, payload, signature = map(_decode_segment, segments, ("header", "payload", "signature"))
    message = token[: token.rindex(".")].encode("ascii")
    for key in _candidate_keys(_read_header(header), issuers):
        if key.verifies(message, signature):
            return payload, key
    raise InvalidToken("the token was not signed by the key that its header names", auth_reason="bad_signature")


def _decode_segment(segment: str, name: str) -> bytes:
    """Return a segment's bytes; raise InvalidToken for padding, invalid characters and stray trailing bits."""
    if _BASE64URL_PATTERN.fullmatch(segment) and len(segment) % 4 != 1:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == segment:
            return data
    raise InvalidToken(f"the token's {name} is not base64url without padding", auth_reason="malformed_base64url")


def parse_json_object(data: bytes, part: Literal["header", "payload"]) -> dict[str, object]:
    """Return the JSON object in ``data``; raise InvalidToken (``malformed_<part>``, ``duplicate_<part>_member``)."""
    try:
        value = parse_json(data, name=f"the token's {part}", max_depth=MAX_JSON_DEPTH)
    except DuplicateMember as error:
        raise InvalidToken(str(error), auth_reason=f"duplicate_{part}_member") from None
    except JsonError as error:
        raise InvalidToken(str(error), auth_reason=f"malformed_{part}") from None
    if not isinstance(value, dict):
        raise InvalidToken(f"the token's {part} is not a JSON object", auth_reason=f"malformed_{part}")
    return cast("dict[str, object]", value)


def _read_header(header: bytes) -> dict[str, object]:
    if len(header) > MAX_TOKEN_HEADER_BYTES:
        raise InvalidToken(
            f"the token's header has {len(header)} bytes, over {MAX_TOKEN_HEADER_BYTES}",
            auth_reason="oversize_header",
        )
    members = parse_json_object(header, "header")
    for name in _FORBIDDEN_HEADER_MEMBERS:
        if name in members:
            raise InvalidToken(f"the token's header has {name!r}, which is not supported", auth_reason="refused_header")
    return members


def _candidate_keys(members: Mapping[str, object], issuers: Sequence[Issuer]) -> list[VerifyingKey]:
    """Return the keys that may have signed: one, unless two foreign issuers use the same kid."""
    algorithm = members.get("alg")
    key_sets = [issuer.keys for issuer in issuers if algorithm in issuer.algorithms]
    if not key_sets:
        trusted = " or ".join(sorted({name for issuer in issuers for name in issuer.algorithms})) or "no algorithm"
        raise InvalidToken(
            f"the token's alg is {short_repr(algorithm)}; this sandbox accepts {trusted}",
            auth_reason="algorithm_not_allowed",
        )
    if "kid" in members:
        return _keys_by_kid(members["kid"], algorithm, key_sets)
    candidates = {key for keys in key_sets for key in keys.published_keys() if key.algorithm == algorithm}
    if len(candidates) != 1:
        raise InvalidToken(
            f"the token has no kid, and {len(candidates)} keys could have signed it with {algorithm}",
            auth_reason="missing_kid",
        )
    return list(candidates)


def _keys_by_kid(kid: object, algorithm: object, key_sets: Sequence[KeySet]) -> list[VerifyingKey]:
    named = [key for keys in key_sets if isinstance(kid, str) and (key := keys.find(kid))]
    if not named:
        kids = dict.fromkeys(short_repr(key.kid) for keys in key_sets for key in keys.published_keys())
        raise InvalidToken(
            f"kid {short_repr(kid)} is not in the JWKS (known: {', '.join(list(kids)[:10]) or 'none'})",
            auth_reason="unknown_kid",
        )
    candidates = [key for key in named if key.algorithm == algorithm]
    if not candidates:
        raise InvalidToken(
            f"the token's alg is {algorithm}, but the key {short_repr(kid)} is for {named[0].algorithm}",
            auth_reason="key_mismatch",
        )
    return candidates


def _check_times(claims: _Claims, issuer: Issuer, now_ms: int) -> tuple[int, int]:
    """Return the start and end of the token's validity; raise if it isn't valid now (RFC 7519, 4.1.4-6)."""
    exp = _numeric_date(claims, "exp")
    if exp is None:
        raise InvalidToken("the token has no exp, which is required", auth_reason="missing_exp")
    valid_until_ms = math.ceil((exp + issuer.leeway_s) * 1000)
    if now_ms >= valid_until_ms:
        ago = _format_seconds(now_ms / 1000 - exp)
        raise TokenExpired(f"the token expired {ago} ago on the sandbox's clock", auth_reason="expired")
    valid_from_ms = 0
    for name, reason in (("nbf", "not_yet_valid"), ("iat", "issued_in_future")):
        date = _numeric_date(claims, name)
        if date is not None:
            valid_from_ms = max(valid_from_ms, math.ceil((date - issuer.leeway_s) * 1000))
            if now_ms < valid_from_ms:
                ahead = _format_seconds(date - now_ms / 1000)
                raise InvalidToken(f"the token's {name} is {ahead} ahead of the sandbox's clock", auth_reason=reason)
    return valid_from_ms, valid_until_ms


def _numeric_date(claims: _Claims, name: str) -> int | float | None:
    """Return a time claim in seconds since 1970, or None; raise InvalidToken unless it is a valid number."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"the token's {name} is {short_repr(value)}, not a number", auth_reason=f"malformed_{name}")
    if not -_MAX_DATE_S <= value <= _MAX_DATE_S:
        raise InvalidToken(f"the token's {name} is after the year 9999", auth_reason=f"malformed_{name}")
    return value


def _check_audience(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken for a token with another audience (RFC 7519, section 4.1.3)."""
    accepted = issuer.audience
    if accepted is None or (not accepted and "aud" not in claims):
        return
    aud = claims.get("aud")
    names = cast("list[object]", aud) if isinstance(aud, list) else [aud]
    if all(isinstance(name, str) for name in names) and any(name in accepted for name in names):
        return
    expected = " or ".join(map(short_repr, accepted)) or "a token without aud (its issuer has no audience configured)"
    raise InvalidToken(
        f"the token's aud is {short_repr(claims.get('aud'))}; this sandbox requires {expected}",
        auth_reason="wrong_audience",
    )


def _check_authorized_party(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken for a token of another party, if the issuer lists its parties."""
    if issuer.authorized_parties and claims.get("azp") not in issuer.authorized_parties:
        expected = " or ".join(map(short_repr, issuer.authorized_parties))
        raise InvalidToken(
            f"the token's azp is {short_repr(claims.get('azp'))}; this sandbox requires {expected}",
            auth_reason="wrong_azp",
        )


def _read_user_id(claims: _Claims, issuer: Issuer, contract: Contract) -> str:
    name = issuer.user_claim
    value = claims.get(name)
    if value is None:
        raise InvalidToken(f"the token has no {name}, which identifies the user", auth_reason="missing_user")
    problem = id_problem(contract, value) if isinstance(value, str) and value else "must be a non-empty string"
    if not isinstance(value, str) or problem:
        raise InvalidToken(f"the token's {name} is {short_repr(value)}: it {problem}", auth_reason="malformed_user")
    return value


def _format_seconds(seconds: float) -> str:
    return f"{math.floor(seconds):,} s".replace(",", " ")
