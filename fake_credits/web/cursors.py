"""Own cursors: opaque, authenticated, and bound to one list; know nothing of what the list holds.

A cursor is a position and a keyed hash over it and the list's name (operation, application, user), in base64url.
Lists are append-only, so a position stays right while others write.
"""

import base64
import binascii
import hashlib
import hmac

from fake_credits.errors import InvalidCursor

__all__ = ["open_cursor", "seal_cursor"]

_POSITION_BYTES = 6
_SEAL_BYTES = 12


def seal_cursor(key: bytes, scope: tuple[str, ...], position: int) -> str:
    """Return the cursor for a position of the list that ``scope`` names."""
    place = position.to_bytes(_POSITION_BYTES, "big")
    return base64.urlsafe_b64encode(place + _seal(key, scope, place)).decode("ascii")


def open_cursor(key: bytes, scope: tuple[str, ...], cursor: str) -> int:
    """Return the position behind a cursor; raise InvalidCursor for one that this list did not give out."""
    try:
        sent = cursor.encode("ascii")
        position = int.from_bytes(base64.b64decode(sent, altchars=b"-_", validate=True)[:_POSITION_BYTES], "big")
    except (UnicodeEncodeError, binascii.Error):
        raise _refused() from None
    # The texts are compared, not what they decode to: base64 has several texts for the same bytes.
    if not hmac.compare_digest(sent, seal_cursor(key, scope, position).encode("ascii")):
        raise _refused()
    return position


def _seal(key: bytes, scope: tuple[str, ...], place: bytes) -> bytes:
    # Lengths in front make the encoding unambiguous: no two scopes share one.
    named = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in scope))
    return hashlib.blake2b(place + named, digest_size=_SEAL_BYTES, key=key).digest()


def _refused() -> InvalidCursor:
    """Return the refusal of a cursor that a list did not give out."""
    return InvalidCursor("this cursor was not given out by this list: pass on nextCursor as it came, to the same list")
