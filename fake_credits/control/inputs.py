"""Helpers for handlers: finding a request's sandbox, and raising errors for invalid members."""

import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

from starlette.requests import Request

from fake_credits.control_schemas import TOKEN_HEADER
from fake_credits.errors import ControlError, Problem
from fake_credits.sandbox import Sandbox
from fake_credits.sandbox_options import OptionError
from fake_credits.text import truncate


def requested_sandbox(request: Request) -> Sandbox:
    """Return the sandbox named in the path; raise ControlError if it does not exist."""
    sandbox: Sandbox = request.app.find_sandbox(request.path_params["sandbox"], request.headers[TOKEN_HEADER])
    return sandbox


def validation_error(field: str, problem: str) -> ControlError:
    """Return the error for an invalid member; ``field`` is empty if ``problem`` already names the member."""
    message = f"{field}: {problem}" if field else problem
    return ControlError("validation_error", message, details=(Problem(field, problem),))


_EXPECTED_IN_JSON = {
    "clock": '"real", "frozen", or an ISO 8601 date and time with a time zone (not before 1970)',
    "users": 'an object that maps user ids to balances, such as {"ada": 100}',
}
"""Descriptions of JSON values, for options whose `OptionRule.expected` describes Python values."""


@contextmanager
def field_errors(field: str = "", options: Mapping[str, object] | None = None) -> Generator[None]:
    """Convert a ValueError raised in the block into a validation error; ``options`` are those of a new sandbox."""
    try:
        yield
    except OptionError as error:
        value = "..." if error.name == "api_key" else (options or {}).get(error.name)
        expected = _EXPECTED_IN_JSON.get(error.name, error.expected)
        got = truncate(json.dumps(value, ensure_ascii=False))
        raise validation_error(error.name, f"must be {expected}, got {got}") from None
    except ValueError as error:
        raise validation_error(field, str(error)) from None


def check_choice(field: str, value: str, choices: Iterable[str]) -> None:
    """Raise a validation error unless the value is one of ``choices``."""
    if value not in choices:
        raise validation_error(field, f"must be one of {', '.join(choices)}, got {json.dumps(value[:60])}")
