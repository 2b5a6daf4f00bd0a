"""A JSON parser that accepts only input that conforms to RFC 8259."""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import NoReturn, cast

from fake_credits.text import short_repr

_MAX_INT_DIGITS = 1000


class JsonError(ValueError):
    """Raised for input that is not strict JSON."""


class DuplicateMember(JsonError):
    """Raised for an object that has the same member twice."""


def parse_json(
    data: bytes,
    *,
    name: str = "the body",
    parse_int: Callable[[str], object] | None = None,
    parse_float: Callable[[str], object] | None = None,
    max_depth: int | None = None,
) -> object:
    """Return the value of a UTF-8 JSON document; ``parse_int`` and ``parse_float`` are as in `json.loads`.

    Raises JsonError for invalid JSON, NaN or infinity, a lone surrogate, a duplicate member (`DuplicateMember`), or
    objects and arrays nested more than ``max_depth`` levels deep.
    """
    if not data:
        raise JsonError(f"{name} is empty: a JSON object is required")
    if data.startswith(b"\xef\xbb\xbf"):
        raise JsonError(f"{name} starts with a byte order mark, which JSON must not have (RFC 8259, section 8.1)")
    try:
        value: object = json.loads(
            data.decode(),
            parse_float=parse_float or _finite_float,
            parse_int=parse_int or _bounded_int,
            parse_constant=_reject_constant,
            object_pairs_hook=_unique_members,
        )
        if b"\\u" in data:  # in UTF-8, only an escape can represent a lone surrogate
            json.dumps(value, default=str, ensure_ascii=False).encode()
    except DuplicateMember as error:
        raise DuplicateMember(f"{name} has the member {error} twice") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"{name} is not valid UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise JsonError(f"{name} has a lone surrogate, which is not a character (RFC 8259, section 8.2)") from None
    except RecursionError:
        raise JsonError(f"{name} is nested too deeply") from None
    except (ValueError, ArithmeticError) as error:
        raise JsonError(f"{name} is not valid JSON: {error}") from None
    if max_depth is not None and _nests_deeper(value, max_depth):
        raise JsonError(f"{name} is nested more than {max_depth} levels deep")
    return value


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_INT_DIGITS:  # int() has a higher limit, and its message is about interpreter settings
        raise ValueError(f"an integer must have at most {_MAX_INT_DIGITS} digits, not {len(digits)}")
    return int(digits)


def _finite_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _reject_constant(short_repr(text))


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number (RFC 8259, section 6)")


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateMember(short_repr(Counter(name for name, _ in pairs).most_common(1)[0][0]))
    return members


def _nests_deeper(value: object, limit: int) -> bool:
    if limit < 0:
        return True
    if isinstance(value, dict):
        return any(_nests_deeper(child, limit - 1) for child in cast("dict[str, object]", value).values())
    return isinstance(value, list) and any(_nests_deeper(child, limit - 1) for child in cast("list[object]", value))
