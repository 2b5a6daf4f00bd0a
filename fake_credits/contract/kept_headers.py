"""Own which headers of a request are journalled: those that carry no credential; know nothing of the journal."""

import re
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache

from fake_credits.contract.model import Contract

__all__ = ["ALWAYS_KEPT", "KeptHeaders"]

ALWAYS_KEPT = ("idempotency-key", "traceparent")
"""The headers that are kept whatever the setting says."""

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_NAMES_MAX = 32
_SHOWN = 256


class KeptHeaders:
    """Pick the headers to keep from a request's.

    Raises TypeError for one str in place of several names; ValueError for more than 32 names, for one that is no
    header's (RFC 9110, section 5.6.2, at most 64 characters), and for one that carries a credential, in general or by
    the contract: the journal keeps none.
    """

    def __init__(self, names: Sequence[str], contract: Contract) -> None:
        if isinstance(names, str):
            raise TypeError(f"keep_headers must be several names, such as ({names!r},), not a str")
        self.names, self._raw = _always_kept(contract.api_key.header, contract.user_token.header)
        if names:
            own = {contract.api_key.header.lower(), contract.user_token.header.lower()}
            asked = [_checked(name, _CREDENTIALS | own) for name in names]
            self.names = tuple(dict.fromkeys([*self.names, *asked]))
            self._raw = _by_raw_name(self.names)
        if len(self.names) > _NAMES_MAX:
            raise ValueError(
                f"keep_headers names {len(self.names)} headers: at most {_NAMES_MAX}, always kept ones too"
            )
        self._none: dict[str, str] = {}  # one for the thousands of entries without any

    def __repr__(self) -> str:
        return f"<KeptHeaders: {', '.join(self.names)}>"

    def of(self, fields: Mapping[bytes, bytes]) -> Mapping[str, str]:
        """Return those of a request's fields that are kept, at most 256 characters of each."""
        if self._raw.keys().isdisjoint(fields):
            return self._none
        return {name: fields[raw][:_SHOWN].decode("latin-1") for raw, name in self._raw.items() if raw in fields}


@lru_cache(maxsize=16)
def _always_kept(*credentials: str) -> tuple[tuple[str, ...], Mapping[bytes, str]]:
    """Return the names that are kept beside a contract's credentials; every sandbox asks."""
    own = {name.lower() for name in credentials}
    names = tuple(name for name in ALWAYS_KEPT if name not in own)
    return names, _by_raw_name(names)


def _by_raw_name(names: Sequence[str]) -> Mapping[bytes, str]:
    return {name.encode("ascii"): name for name in names}


def _checked(name: str, secret: Set[str]) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"keep_headers has {name!r}, which is no header's name")
    if name.lower() in secret:
        raise ValueError(f"keep_headers has {name!r}, which carries a credential: the journal keeps none")
    return name.lower()
