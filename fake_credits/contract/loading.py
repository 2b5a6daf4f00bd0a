"""Own contract files: TOML in, `Contract` out, every refusal with file, key and the nearest known name.

The keys are the names of `Contract`'s settings, so there is nothing to keep in step.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args, get_origin

from fake_credits.contract.model import Contract
from fake_credits.contract.parts import DEFAULT_ROUTES, ContractError, HeaderForm, Operation, RouteTemplate
from fake_credits.contract.rules import nearest

__all__ = ["VERSION", "contract_from", "load_contract"]

VERSION = 1
"""The version of the file format; a file says ``version = 1``."""

_ABSENT = {"applications": "open", "key_applications": "open", "floor": "none", "ceiling": "none"}
_SIZE_LIMIT_BYTES = 1024 * 1024


def load_contract(path: str | Path) -> Contract:
    """Return the contract that a TOML file describes; a setting that it does not name keeps its default.

    Raises ContractError, with the file's name in front, for a file that can't be read, is no TOML, has another
    version, or names a setting that is unknown or can't be.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_SIZE_LIMIT_BYTES + 1)
        if len(text) > _SIZE_LIMIT_BYTES:
            raise ContractError("the file", f"is over {_SIZE_LIMIT_BYTES} bytes")
        contract = contract_from(tomllib.loads(text.decode("utf-8")))
        # Files are named from where the contract's file is, not from where the process runs.
        trust = {issuer: str(Path(path).parent / keys) for issuer, keys in contract.trust.items()}
        return dataclasses.replace(contract, trust=trust) if trust else contract
    except OSError as error:
        raise ContractError(str(path), f"can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(str(path), f"is no TOML: {error}") from None
    except ContractError as error:
        raise ContractError(str(path), str(error)) from None


def contract_from(document: Mapping[str, object]) -> Contract:
    """Return the contract that a parsed document describes; raise ContractError."""
    settings = {each.name: each for each in dataclasses.fields(Contract)}
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ContractError("version", f"must be {VERSION}, not {version!r}")
    words: dict[str, object] = {}
    for key, value in document.items():
        if key == "version":
            continue
        if key not in settings:
            raise ContractError(key, f"there is no such setting{nearest(key, settings)}")
        words[key] = _value(key, settings[key].type, value)
    return Contract(**words)  # type: ignore[arg-type] # each value was read by its setting's type


def _value(key: str, annotation: object, value: object) -> object:
    if key == "routes":
        return {**DEFAULT_ROUTES, **_routes(_table(key, value))}
    if annotation is HeaderForm:
        header, _, scheme = _text(key, value).partition(":")
        return HeaderForm(header.strip(), scheme.strip())
    if key in _ABSENT and value == _ABSENT[key]:
        return None
    if any(get_origin(each) is tuple for each in (annotation, *get_args(annotation))):
        return _texts(key, value)
    if get_origin(annotation) is Mapping:
        return dict(_table(key, value))
    return _text(key, value) if annotation is str else value


def _routes(table: Mapping[str, object]) -> dict[Operation, RouteTemplate]:
    routes: dict[Operation, RouteTemplate] = {}
    for name, value in table.items():
        if name not in Operation.__members__.values():
            known = [operation.value for operation in Operation]
            raise ContractError(f"routes.{name}", f"there is no such operation{nearest(name, known)}")
        method, _, path = _text(f"routes.{name}", value).partition(" ")
        routes[Operation(name)] = RouteTemplate(method, path.strip())
    return routes


def _table(key: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ContractError(key, f"must be a table, not {value!r}")
    return cast("dict[str, object]", value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ContractError(key, f"must be a string, not {value!r}")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        absent = f" or {_ABSENT[key]!r}" if key in _ABSENT else ""
        raise ContractError(key, f"must be a list of strings{absent}, not {value!r}")
    return tuple(_text(key, each) for each in cast("list[object]", value))
