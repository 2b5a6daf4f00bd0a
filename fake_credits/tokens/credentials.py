"""A request's credential, and the reasons why it can be rejected."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import msgspec

from fake_credits.contract import Contract
from fake_credits.contract.types import header_example
from fake_credits.errors import AmbiguousCredentials, MissingCredentials
from fake_credits.tokens.verifying import MAX_TOKEN_BYTES

CredentialKind = Literal["server", "user"]

_MAX_CACHED_CREDENTIALS = 1024
_CLAIMS_DECODER = msgspec.json.Decoder(dict[str, object])


@dataclass(frozen=True, slots=True)
class Credential:
    """A request's credential: an API key (``server``) or a token (``user``). Its repr never shows the value."""

    kind: CredentialKind
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Placement:
    kind: CredentialKind | None  # None: both kinds use this header and scheme, so the form of the value decides
    scheme: str  # in lower case


class CredentialReader:
    """A parser for the credential in a request's headers, configured by a contract.

    See docs/reference/contract.md, rows 2 to 4.
    """

    def __init__(self, contract: Contract) -> None:
        self._on_conflict = contract.both_credentials
        self._placements = _placements_by_header(contract)
        self._cached_parse = lru_cache(_MAX_CACHED_CREDENTIALS)(self._parse)
        self._expected = (
            f"send {header_example(contract.api_key)} (server) or {header_example(contract.user_token)} (user)"
        )

    def __repr__(self) -> str:
        return f"<CredentialReader {self._expected}>"

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Credential:
        """Return the credential in ASGI headers, whose names must be in lower case.

        A header with an unexpected scheme, or with nothing after the scheme, is ignored if another header has a
        credential. Raises MissingCredentials (reason: ``no_credential``, ``unsupported_scheme`` or ``empty``) if there
        is none, and AmbiguousCredentials if there are several of the same kind (reason: ``repeated``), or if there is
        one of each kind and the contract doesn't choose between them (reason: ``both``).
        """
        found: list[Credential] = []
        reason, placements = "no_credential", self._placements
        for name, value in headers:
            if name in placements:
                result = self._cached_parse(name, value)
                if isinstance(result, Credential):
                    found.append(result)
                else:
                    reason = result
        if not found:
            raise MissingCredentials(f"{_MISSING_MESSAGES[reason]}: {self._expected}", auth_reason=reason)
        return found[0] if len(found) == 1 else self._resolve_several(found)

    def _parse(self, name: bytes, raw: bytes) -> Credential | str:
        """Return the credential in a header's value, or the reason why there is none."""
        value = raw.decode("latin-1").strip(" \t")
        scheme, _, rest = value.partition(" ")
        for placement in self._placements[name]:
            if not placement.scheme:
                return _make_credential(placement, value)
            if scheme.lower() == placement.scheme:  # RFC 9110, section 11.1: case-insensitive
                return _make_credential(placement, rest.lstrip(" "))
        return "unsupported_scheme" if value else "empty"

    def _resolve_several(self, found: list[Credential]) -> Credential:
        kinds = [credential.kind for credential in found]
        for kind in kinds:
            if kinds.count(kind) > 1:
                problem = f"the request has {kinds.count(kind)} {'API keys' if kind == 'server' else 'user tokens'}"
                raise AmbiguousCredentials(f"{problem}: send only one", auth_reason="repeated")
        if self._on_conflict == "refuse":
            problem = "the request has both an API key and a user token: send only one of them"
            raise AmbiguousCredentials(problem, auth_reason="both")
        winner: CredentialKind = "server" if self._on_conflict == "key" else "user"
        return found[kinds.index(winner)]


_MISSING_MESSAGES = {
    "no_credential": "the request has no credentials",
    "unsupported_scheme": "the request's credential has an unsupported scheme",
    "empty": "the request's credential is empty",
}


def peek_claims(token: str) -> Mapping[str, object]:
    """Return a token's unverified claims, which identify its sandbox but authenticate nothing.

    Returns no claims for a malformed or overlong token.
    """
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        return {}
    payload = token.split(".")[1]
    try:
        return _CLAIMS_DECODER.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return {}


def _placements_by_header(contract: Contract) -> dict[bytes, tuple[_Placement, ...]]:
    key, token = contract.api_key, contract.user_token
    key_name, token_name = key.header.lower().encode("latin-1"), token.header.lower().encode("latin-1")
    key_placement, token_placement = _Placement("server", key.scheme.lower()), _Placement("user", token.scheme.lower())
    if key_name != token_name:
        return {key_name: (key_placement,), token_name: (token_placement,)}
    if key_placement.scheme == token_placement.scheme:
        return {key_name: (_Placement(None, key_placement.scheme),)}
    # An entry without a scheme would match anything, so it comes last.
    return {key_name: tuple(sorted((key_placement, token_placement), key=lambda placement: not placement.scheme))}


def _make_credential(placement: _Placement, value: str) -> Credential | str:
    if not value:
        return "empty"
    # If both kinds use the same header and scheme, a value with three segments is a token, even if the last is empty.
    kind = placement.kind or ("user" if value.count(".") == 2 else "server")
    return Credential(kind, value)


AUTH_FAILURE_REASONS: tuple[str, ...] = (
    "algorithm_not_allowed",
    "bad_signature",
    "both",
    "closed_sandbox",
    "duplicate_header_member",
    "duplicate_payload_member",
    "empty",
    "expired",
    "insufficient_scope",
    "issued_in_future",
    "key_mismatch",
    "key_of_another_issuer",
    "malformed_base64url",
    "malformed_exp",
    "malformed_header",
    "malformed_iat",
    "malformed_nbf",
    "malformed_payload",
    "malformed_segments",
    "malformed_user",
    "missing_exp",
    "missing_kid",
    "missing_user",
    "no_credential",
    "not_yet_valid",
    "other_application",
    "other_user",
    "oversize",
    "oversize_header",
    "refused_header",
    "repeated",
    "revoked",
    "rotated",
    "unknown_key",
    "unknown_kid",
    "unsupported_scheme",
    "wrong_audience",
    "wrong_azp",
    "wrong_issuer",
)
"""The reasons that can follow ``auth:`` in ``X-Fake-Credits-Cause``."""
