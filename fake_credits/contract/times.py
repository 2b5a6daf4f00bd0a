"""Own how ``createdAt`` is written and read (row 20); know nothing of what was created."""

from datetime import UTC, datetime

from fake_credits.clock import from_ms
from fake_credits.contract.parts import CreatedAtForm

__all__ = ["created_at_to_json", "json_to_created_at"]


def created_at_to_json(form: CreatedAtForm, ms: int) -> str | int:
    """Return a time in milliseconds since 1970 as the JSON value that the contract sends."""
    if form == "unix_ms":
        return ms
    if form == "unix_s":
        return ms // 1000
    spec = "milliseconds" if form == "iso_ms" else "seconds"
    return from_ms(ms).replace(tzinfo=None).isoformat(timespec=spec) + "Z"


def json_to_created_at(form: CreatedAtForm, value: object) -> datetime:
    """Return the aware datetime (UTC) behind a JSON value; raise ValueError where it is not of the contract's form."""
    if form in ("unix_ms", "unix_s"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"createdAt is {value!r}, not a number")
        return from_ms(int(value) if form == "unix_ms" else int(value * 1000))
    if not isinstance(value, str):
        raise ValueError(f"createdAt is {value!r}, not a string")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"createdAt is {value!r}, without a time zone")
    return moment.astimezone(UTC)
