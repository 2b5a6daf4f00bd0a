"""Verification of users' tokens.

The steps follow the order in docs/how-to/tokens.md: first the signature (RFC 7515, section 5.2; RFC 7517, section 4.5,
on ``kid``), then the claims (RFC 7519, section 7.2). Each kind of failure has its own ``auth_reason``.
"""

import base64
import json
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

MAX_TOKEN_BYTES: Final = 8 * 1024
"""The maximum size of a token; many HTTP servers reject larger headers."""

MAX_TOKEN_HEADER_BYTES: Final = 2 * 1024
"""The maximum size of a decoded token header."""

MAX_JSON_DEPTH: Final = 32
"""The maximum nesting depth of a token's objects and arrays, which keeps recursion over the claims safe."""

MAX_CACHED_TOKENS: Final = 1024
"""The maximum number of cached tokens; a full cache is emptied before the next token is added."""

_BASE64URL_PATTERN = re.compile(r"[A-Za-z0-9_-]*")
_MAX_DATE_S: Final = MAX_TIMESTAMP_MS // 1000

# RFC 7515, section 4.1: `crit` makes extensions mandatory; the others would let a token choose its own key.
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
                f"the token is for user {short_repr(self.user_id)}, not {short_repr(user_id)}; in a test, "
                f"fake_credits.user_client({json.dumps(user_id, ensure_ascii=False)}) sends that user's token",
                auth_reason="other_user",
            )


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    token: VerifiedToken
    issuer: Issuer
    valid_from_ms: int
    valid_until_ms: int


class Verifier:
    """A thread-safe verifier that checks users' tokens against trusted issuers and a contract's rules for ids.

    Raises ValueError if two issuers have the same URL.
    """

    def __init__(self, issuers: Sequence[Issuer], contract: Contract = DEFAULT_CONTRACT) -> None:
        self._contract = contract
        self._by_url = {issuer.url: issuer for issuer in issuers}
        if len(self._by_url) < len(issuers):
            raise ValueError(f"issuers must have different URLs: {', '.join(issuer.url for issuer in issuers)}")
        self._issuers = tuple(issuers)
        self._cache: dict[str, _CacheEntry] = {}

    def __repr__(self) -> str:
        return f"<Verifier: issuers={len(self._issuers)}, cached tokens={len(self._cache)}>"

    def verify(self, token: str, now_ms: int) -> VerifiedToken:
        """Verify a token as of ``now_ms`` (ms since 1970, on the sandbox's clock), and return the result.

        Raises TokenExpired (reason: ``expired``) if a genuine token has expired, and InvalidToken, whose
        ``auth_reason`` names the failed step, for any other invalid token. Valid tokens are cached, so verifying one
        again costs only a lookup and a check of its times.
        """
        entry = self._cache.get(token)
        if entry is None:
            entry = self._verify_uncached(token, now_ms)
            if len(self._cache) >= MAX_CACHED_TOKENS:
                self._cache.clear()
            self._cache[token] = entry
        elif not entry.valid_from_ms <= now_ms < entry.valid_until_ms:
            _check_times(entry.token.claims, entry.issuer, now_ms)
        return entry.token

    def _verify_uncached(self, token: str, now_ms: int) -> _CacheEntry:
        payload, key = verify_signature(token, self._issuers)
        claims = MappingProxyType(parse_json_object(payload, "payload"))
        issuer = self._find_issuer(claims)
        if key.algorithm not in issuer.algorithms or key not in issuer.keys.published_keys():
            key_label = f"{short_repr(key.kid)} ({key.algorithm})"
            problem = f"the token's key {key_label} doesn't belong to {short_repr(issuer.url)}"
            raise _invalid_token("key_of_another_issuer", problem)
        valid_from_ms, valid_until_ms = _check_times(claims, issuer, now_ms)
        _check_audience(claims, issuer)
        _check_authorized_party(claims, issuer)
        verified = VerifiedToken(_read_user_id(claims, issuer, self._contract), issuer.url, claims)
        return _CacheEntry(verified, issuer, valid_from_ms, valid_until_ms)

    def _find_issuer(self, claims: _Claims) -> Issuer:
        url = claims.get("iss")
        issuer = self._by_url.get(url) if isinstance(url, str) else None
        if issuer is None:
            trusted = " and ".join(map(short_repr, self._by_url)) or "no issuer"
            raise _invalid_token("wrong_issuer", f"the token's iss is {short_repr(url)}; this sandbox trusts {trusted}")
        return issuer


def _invalid_token(reason: str, message: str) -> InvalidToken:
    return InvalidToken(message, auth_reason=reason)


def verify_signature(token: str, issuers: Sequence[Issuer]) -> tuple[bytes, VerifyingKey]:
    """Return a token's payload and the issuer key that signed the token; raise InvalidToken if no known key did.

    The payload is not parsed, so the caller must check that its ``iss`` names the key's issuer.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise _invalid_token("oversize", f"the token is {len(token)} bytes long; the limit is {MAX_TOKEN_BYTES}")
    segments = token.split(".")
    if len(segments) != 3:
        raise _invalid_token("malformed_segments", f"a JWT has 3 segments, but the token has {len(segments)}")
    header, payload, signature = map(_decode_segment, segments, ("header", "payload", "signature"))
    message = token[: token.rindex(".")].encode("ascii")
    for key in _candidate_keys(_read_header(header), issuers):
        if key.verifies(message, signature):
            return payload, key
    raise _invalid_token("bad_signature", "invalid signature: the token was altered or signed with another key")


def _decode_segment(segment: str, name: str) -> bytes:
    """Decode a segment; raise InvalidToken if it has padding, invalid characters or stray trailing bits."""
    if _BASE64URL_PATTERN.fullmatch(segment) and len(segment) % 4 != 1:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == segment:
            return data
    raise _invalid_token("malformed_base64url", f"the token's {name} is not valid unpadded base64url")


def parse_json_object(data: bytes, part: Literal["header", "payload"]) -> dict[str, object]:
    """Parse a JSON object; raise InvalidToken if it is malformed or has duplicate members.

    The error's ``auth_reason`` is ``malformed_<part>`` or ``duplicate_<part>_member``.
    """
    try:
        value = parse_json(data, name=f"the token's {part}", max_depth=MAX_JSON_DEPTH)
    except DuplicateMember as error:
        raise _invalid_token(f"duplicate_{part}_member", str(error)) from None
    except JsonError as error:
        raise _invalid_token(f"malformed_{part}", str(error)) from None
    if not isinstance(value, dict):
        raise _invalid_token(f"malformed_{part}", f"the token's {part} is not a JSON object")
    return cast("dict[str, object]", value)


def _read_header(header: bytes) -> dict[str, object]:
    if len(header) > MAX_TOKEN_HEADER_BYTES:
        raise _invalid_token(
            "oversize_header", f"the token's header is {len(header)} bytes long; the limit is {MAX_TOKEN_HEADER_BYTES}"
        )
    members = parse_json_object(header, "header")
    for name in _FORBIDDEN_HEADER_MEMBERS:
        if name in members:
            raise _invalid_token("refused_header", f"the token's header has {name!r}, which is not supported")
    return members


def _candidate_keys(members: Mapping[str, object], issuers: Sequence[Issuer]) -> list[VerifyingKey]:
    """Return the keys that may have signed the token: one, unless several issuers have a key that matches its kid."""
    algorithm = members.get("alg")
    key_sets = [issuer.keys for issuer in issuers if algorithm in issuer.algorithms]
    if not key_sets:
        trusted = " or ".join(sorted({name for issuer in issuers for name in issuer.algorithms})) or "no algorithm"
        raise _invalid_token(
            "algorithm_not_allowed", f"the token's alg is {short_repr(algorithm)}; this sandbox accepts {trusted}"
        )
    if "kid" in members:
        return _keys_by_kid(members["kid"], algorithm, key_sets)
    candidates = {key for keys in key_sets for key in keys.published_keys() if key.algorithm == algorithm}
    if len(candidates) != 1:
        raise _invalid_token(
            "missing_kid", f"the token has no kid, and {len(candidates)} keys could have signed it with {algorithm}"
        )
    return list(candidates)


def _keys_by_kid(kid: object, algorithm: object, key_sets: Sequence[KeySet]) -> list[VerifyingKey]:
    named = [key for keys in key_sets if isinstance(kid, str) and (key := keys.find(kid))]
    if not named:
        kids = dict.fromkeys(short_repr(key.kid) for keys in key_sets for key in keys.published_keys())
        raise _invalid_token(
            "unknown_kid", f"kid {short_repr(kid)} is not in the JWKS (known: {', '.join(list(kids)[:10]) or 'none'})"
        )
    candidates = [key for key in named if key.algorithm == algorithm]
    if not candidates:
        raise _invalid_token(
            "key_mismatch", f"the token's alg is {algorithm}, but the key {short_repr(kid)} is for {named[0].algorithm}"
        )
    return candidates


def _check_times(claims: _Claims, issuer: Issuer, now_ms: int) -> tuple[int, int]:
    """Return the start and end of the token's validity (RFC 7519, sections 4.1.4 to 4.1.6), in ms since 1970.

    Raises TokenExpired if the token has expired, and InvalidToken if it isn't valid yet, has no ``exp``, or has a
    malformed time.
    """
    exp = _numeric_date(claims, "exp")
    if exp is None:
        raise _invalid_token("missing_exp", "the token has no exp, which is required")
    valid_until_ms = math.ceil((exp + issuer.leeway_s) * 1000)
    if now_ms >= valid_until_ms:
        ago_s = math.floor(now_ms / 1000 - exp)
        raise TokenExpired(f"the token expired {ago_s:,} s ago according to the sandbox's clock", auth_reason="expired")
    valid_from_ms = 0
    for name, reason in (("nbf", "not_yet_valid"), ("iat", "issued_in_future")):
        date = _numeric_date(claims, name)
        if date is not None:
            valid_from_ms = max(valid_from_ms, math.ceil((date - issuer.leeway_s) * 1000))
            if now_ms < valid_from_ms:
                ahead_s = math.floor(date - now_ms / 1000)
                raise InvalidToken(
                    f"the token's {name} is {ahead_s:,} s ahead of the sandbox's clock", auth_reason=reason
                )
    return valid_from_ms, valid_until_ms


def _numeric_date(claims: _Claims, name: str) -> int | float | None:
    """Return a time claim in seconds since 1970, or None if it is absent; raise InvalidToken if it is invalid."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid_token(f"malformed_{name}", f"the token's {name} is {short_repr(value)}, not a number")
    if not -_MAX_DATE_S <= value <= _MAX_DATE_S:
        raise _invalid_token(f"malformed_{name}", f"the token's {name} is out of range (the limit is the year 9999)")
    return value


def _check_audience(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken if the token is for another audience (RFC 7519, section 4.1.3)."""
    accepted = issuer.audience
    if accepted is None or (not accepted and "aud" not in claims):
        return
    aud = claims.get("aud")
    names = cast("list[object]", aud) if isinstance(aud, list) else [aud]
    if all(isinstance(name, str) for name in names) and any(name in accepted for name in names):
        return
    expected = " or ".join(map(short_repr, accepted)) or "a token without aud (its issuer has no audience configured)"
    raise _invalid_token(
        "wrong_audience", f"the token's aud is {short_repr(claims.get('aud'))}; this sandbox requires {expected}"
    )


def _check_authorized_party(claims: _Claims, issuer: Issuer) -> None:
    """Raise InvalidToken if the issuer lists authorized parties and the token's ``azp`` is not one of them."""
    if issuer.authorized_parties and claims.get("azp") not in issuer.authorized_parties:
        expected = " or ".join(map(short_repr, issuer.authorized_parties))
        raise _invalid_token(
            "wrong_azp", f"the token's azp is {short_repr(claims.get('azp'))}; this sandbox requires {expected}"
        )


def _read_user_id(claims: _Claims, issuer: Issuer, contract: Contract) -> str:
    name = issuer.user_claim
    value = claims.get(name)
    if value is None:
        raise _invalid_token("missing_user", f"the token has no {name} claim to identify the user")
    problem = id_problem(contract, value) if isinstance(value, str) and value else "must be a non-empty string"
    if not isinstance(value, str) or problem:
        raise _invalid_token("malformed_user", f"the token's {name} is {short_repr(value)}: it {problem}")
    return value
