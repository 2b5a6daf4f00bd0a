"""A JSON reader that accepts RFC 8259 and nothing else."""

import json
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

from fake_credits.errors import MalformedJson

__all__ = ["parse_json", "short_repr"]


def parse_json(body: bytes, *, parse_int: Callable[[str], object], parse_float: Callable[[str], object]) -> object:
    """Return what a body says, numbers as two functions make them of their text.

    Raises MalformedJson for what is no JSON, has a member twice or a lone surrogate, or is nested too deeply.
    """
    if not body:
        raise MalformedJson("the body is empty: a JSON object is required")
    if body.startswith(b"\xef\xbb\xbf"):
        raise MalformedJson("the body starts with a byte order mark, which JSON may not have (RFC 8259, section 8.1)")
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_float=parse_float,
            parse_int=parse_int,
            parse_constant=_reject_constant,
            object_pairs_hook=_unique_members,
        )
        json.dumps(value, default=str, ensure_ascii=False).encode("utf-8")
    except MalformedJson:
        raise
    except UnicodeDecodeError as error:
        raise MalformedJson(f"the body is no UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise MalformedJson("the body has a lone surrogate, which is no text (RFC 8259, section 8.2)") from None
    except RecursionError:
        raise MalformedJson("the body is nested too deeply") from None
    except (ValueError, ArithmeticError) as error:
        raise MalformedJson(f"the body is no JSON: {error}") from None
    return value


def short_repr(value: object) -> str:
    """Return a value as a message may quote it, at most 60 characters of it."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _reject_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is no JSON (RFC 8259, section 6)")


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        duplicate = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise MalformedJson(f"the member {short_repr(duplicate)} stands twice in an object")
    return members
