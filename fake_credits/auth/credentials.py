"""Own which credential a request bears; know nothing of whether it is good."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NoReturn

import msgspec

from fake_credits.contract import Contract, HeaderForm
from fake_credits.errors import AmbiguousCredentials, MissingCredentials

__all__ = ["PEEK_LIMIT", "Credential", "CredentialReader", "Kind", "peek_claims"]

Kind = Literal["server", "user"]

PEEK_LIMIT = 8 * 1024
"""A longer token, in characters, is not looked into: verification refuses it anyway."""

_REMEMBERED = 1024
_LONGEST = 2048
_CLAIMS = msgspec.json.Decoder(dict[str, object])


@dataclass(frozen=True, slots=True)
class Credential:
    """Be what a request bears: an API key (``server``) or a token (``user``); the repr never shows it."""

    kind: Kind
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Form:
    kind: Kind | None  # None: both kinds travel like this, and the shape of the value decides
    scheme: str  # in lower case


class CredentialReader:
    """Find the credential of a request, as a contract says it travels (README, "What is a guess", rows 2 to 4)."""

    def __init__(self, contract: Contract) -> None:
        self._both = contract.both_credentials
        self._forms = _forms_by_header(contract)
        self._read = lru_cache(_REMEMBERED)(self._reading)
        self._wanted = f"send {_describe(contract.api_key)} (server) or {_describe(contract.user_token)} (user)"

    def __repr__(self) -> str:
        return f"<CredentialReader {self._wanted}>"

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Credential:
        """Return the one credential among ASGI headers, whose names are in lower case.

        A header that holds no credential of the contract (another scheme, nothing after the scheme) is passed over
        where another header holds one. Raise MissingCredentials (why: ``no_credential``, ``unsupported_scheme``,
        ``empty``) or AmbiguousCredentials (why: ``repeated``, ``both``).
        """
        found: list[Credential] = []
        why = "no_credential"
        for name, value in headers:
            if name in self._forms:
                result = self._read(name, value) if len(value) <= _LONGEST else self._reading(name, value)
                if isinstance(result, Credential):
                    found.append(result)
                else:
                    why = result
        if len(found) == 1:
            return found[0]
        return self._choose(found) if found else self._miss(why)

    def _reading(self, name: bytes, value: bytes) -> Credential | str:
        return _read(self._forms[name], value)

    def _choose(self, found: list[Credential]) -> Credential:
        kinds = [credential.kind for credential in found]
        for kind in kinds:
            if kinds.count(kind) > 1:
                noun = "API key" if kind == "server" else "user token"
                raise AmbiguousCredentials(f"the request bears {kinds.count(kind)} {noun}s: send one", why="repeated")
        if self._both == "refuse":
            raise AmbiguousCredentials("the request bears an API key and a user token: send one of them", why="both")
        winner: Kind = "server" if self._both == "key" else "user"
        return found[kinds.index(winner)]

    def _miss(self, why: str) -> NoReturn:
        raise MissingCredentials(f"{_MISSED[why]}: {self._wanted}", why=why)


_MISSED = {
    "no_credential": "the request bears no credential",
    "unsupported_scheme": "the request's Authorization scheme is not the contract's",
    "empty": "the request's credential is empty",
}


def peek_claims(token: str) -> Mapping[str, object]:
    """Return a token's claims unverified, to find the sandbox it is meant for; they authenticate nothing.

    Never raise: whatever is odd, or longer than `PEEK_LIMIT`, has no claims.
    """
    if len(token) > PEEK_LIMIT or token.count(".") != 2:
        return {}
    payload = token.split(".")[1]
    try:
        return _CLAIMS.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return {}


def _forms_by_header(contract: Contract) -> dict[bytes, tuple[_Form, ...]]:
    key, token = contract.api_key, contract.user_token
    key_name, token_name = key.header.lower().encode("latin-1"), token.header.lower().encode("latin-1")
    key_form, token_form = _Form("server", key.scheme.lower()), _Form("user", token.scheme.lower())
    if key_name != token_name:
        return {key_name: (key_form,), token_name: (token_form,)}
    if key_form.scheme == token_form.scheme:
        return {key_name: (_Form(None, key_form.scheme),)}
    # A form without a scheme would match anything, so it comes last.
    return {key_name: tuple(sorted((key_form, token_form), key=lambda form: not form.scheme))}


def _read(forms: tuple[_Form, ...], raw: bytes) -> Credential | str:
    """Return the credential in a header's value, or why there is none."""
    value = raw.decode("latin-1").strip(" \t")
    scheme, _, rest = value.partition(" ")
    for form in forms:
        if not form.scheme:
            return _credential(form, value)
        if scheme.lower() == form.scheme:  # RFC 9110, section 11.1: case-insensitive
            return _credential(form, rest.lstrip(" "))
    return "unsupported_scheme" if value else "empty"


def _credential(form: _Form, value: str) -> Credential | str:
    if not value:
        return "empty"
    # Where both travel alike, three segments make a token: an unsigned one too, whose last segment is empty.
    kind = form.kind or ("user" if value.count(".") == 2 else "server")
    return Credential(kind, value)


def _describe(form: HeaderForm) -> str:
    return f"'{form.header}: {form.value('…')}'"
