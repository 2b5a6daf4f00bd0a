"""Own the signature of a token, and the strictness around it; know nothing of claims, users or time.

The steps and their order are README's, "Users' tokens": size, segments, header, algorithm, key, signature (RFC 7515,
section 5.2; RFC 7517, section 4.5, on ``kid``; RFC 7518, section 3.1, on ``alg``). Each has its own ``auth_reason``.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from fake_credits.errors import InvalidToken
from fake_credits.strict_json import DuplicateMember, JsonError, parse_json
from fake_credits.text import short_repr
from fake_credits.tokens.keys import VerifyingKey
from fake_credits.tokens.minting import Issuer

__all__ = [
    "MAX_JSON_DEPTH",
    "MAX_TOKEN_BYTES",
    "MAX_TOKEN_HEADER_BYTES",
    "SignedPayload",
    "parse_json_object",
    "verify_signature",
]

MAX_TOKEN_BYTES: Final = 8 * 1024
"""A larger token is refused unread: front ends cut headers off at about this size."""

MAX_TOKEN_HEADER_BYTES: Final = 2 * 1024
"""A larger header, decoded, is refused unread."""

MAX_JSON_DEPTH: Final = 32
"""Objects and arrays nest so deep at most: whoever walks a token's claims needs no guard against recursion."""

_BASE64URL_PATTERN = re.compile(r"[A-Za-z0-9_-]*")

# RFC 7515, section 4.1: the first makes extensions mandatory, the others let a token choose its own key.
_FORBIDDEN_HEADER_MEMBERS = ("crit", "jku", "x5u", "jwk", "x5c")


@dataclass(frozen=True, slots=True)
class SignedPayload:
    """Be a payload whose signature is good: by which key and algorithm."""

    payload: bytes
    key: VerifyingKey
    algorithm: str

    def is_signed_by(self, issuer: Issuer) -> bool:
        """Tell whether the issuer uses this algorithm and publishes this very key."""
        return self.algorithm in issuer.algorithms and self.key in issuer.keys.published_keys()


def verify_signature(token: str, issuers: Sequence[Issuer]) -> SignedPayload:
    """Return a token's payload if one of the issuers' keys signed it; raise InvalidToken otherwise.

    Which issuer it says it is from is for the caller to compare: the payload is not looked into.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"the token has {len(token)} bytes; {MAX_TOKEN_BYTES} are allowed", auth_reason="oversize")
    segments = token.split(".")
    if len(segments) != 3:
        raise InvalidToken(f"the token has {len(segments)} segments; a JWT has three", auth_reason="malformed_segments")
    header, payload, signature = (
        _decode_segment(segment, name)
        for segment, name in zip(segments, ("header", "payload", "signature"), strict=True)
    )
    members = _read_header(header)
    algorithm = _check_algorithm(members, issuers)
    message = token[: token.rindex(".")].encode("ascii")
    for key in _candidate_keys(members, algorithm, issuers):
        if key.verifies(message, signature):
            return SignedPayload(payload, key, algorithm)
    raise InvalidToken("the token's signature is not by the key that its header names", auth_reason="bad_signature")


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


def _decode_segment(segment: str, name: str) -> bytes:
    """Return a segment's bytes; raise InvalidToken for padding, other characters and stray trailing bits."""
    if _BASE64URL_PATTERN.fullmatch(segment) and len(segment) % 4 != 1:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == segment:
            return data
    raise InvalidToken(f"the token's {name} is not base64url without padding", auth_reason="malformed_base64url")


def _read_header(header: bytes) -> dict[str, object]:
    if len(header) > MAX_TOKEN_HEADER_BYTES:
        raise InvalidToken(
            f"the token's header has {len(header)} bytes; {MAX_TOKEN_HEADER_BYTES} are allowed",
            auth_reason="oversize_header",
        )
    members = parse_json_object(header, "header")
    for name in _FORBIDDEN_HEADER_MEMBERS:
        if name in members:
            raise InvalidToken(
                f"the token's header has {name!r}, which is never followed here", auth_reason="refused_header"
            )
    return members


def _check_algorithm(members: dict[str, object], issuers: Sequence[Issuer]) -> str:
    algorithm = members.get("alg")
    allowed = sorted({name for issuer in issuers for name in issuer.algorithms})
    if not isinstance(algorithm, str) or algorithm not in allowed:
        trusted = " or ".join(allowed) or "nothing"
        raise InvalidToken(
            f"the token's alg is {short_repr(algorithm)}; this sandbox trusts {trusted}",
            auth_reason="algorithm_not_allowed",
        )
    return algorithm


def _candidate_keys(members: dict[str, object], algorithm: str, issuers: Sequence[Issuer]) -> list[VerifyingKey]:
    """Return the keys that may verify: one, but where two foreign issuers chose the same kid."""
    trusted = [issuer for issuer in issuers if algorithm in issuer.algorithms]
    if "kid" not in members:
        return [_only_key(algorithm, trusted)]
    keys = _keys_by_kid(members["kid"], trusted)
    mismatches = [key.mismatch_reason(algorithm) for key in keys]
    candidates = [key for key, mismatch in zip(keys, mismatches, strict=True) if not mismatch]
    if not candidates:
        raise InvalidToken(
            f"the key {short_repr(members['kid'])} does not verify {algorithm}: {mismatches[0]}",
            auth_reason="key_mismatch",
        )
    return candidates


def _keys_by_kid(kid: object, issuers: Sequence[Issuer]) -> list[VerifyingKey]:
    found = [issuer.keys.find(kid) for issuer in issuers] if isinstance(kid, str) else []
    keys = list(dict.fromkeys(key for key in found if key is not None))
    if not keys:
        raise InvalidToken(
            f"kid {short_repr(kid)} is not in the JWKS (has: {_format_kids(issuers)})", auth_reason="unknown_kid"
        )
    return keys


def _only_key(algorithm: str, issuers: Sequence[Issuer]) -> VerifyingKey:
    """Return the key of a token that names none: good only where there is no choice."""
    published = dict.fromkeys(key for issuer in issuers for key in issuer.keys.published_keys())
    candidates = [key for key in published if not key.mismatch_reason(algorithm)]
    if len(candidates) != 1:
        raise InvalidToken(
            f"the token names no kid, and {len(candidates)} keys could have signed {algorithm}",
            auth_reason="missing_kid",
        )
    return candidates[0]


def _format_kids(issuers: Sequence[Issuer]) -> str:
    kids = dict.fromkeys(short_repr(key.kid) for issuer in issuers for key in issuer.keys.published_keys())
    return ", ".join(list(kids)[:10]) or "none"
