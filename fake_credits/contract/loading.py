"""Own contract files: TOML in, `Contract` out, every refusal with file, key and the nearest known name.

The keys are the names of `Contract`'s settings, so there is nothing to keep in step.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args, get_origin

from fake_credits.contract.model import Contract
from fake_credits.contract.types import DEFAULT_ROUTES, ContractError, CredentialHeader, Operation, RouteTemplate
from fake_credits.contract.validation import suggest_choices

__all__ = ["CONTRACT_FORMAT_VERSION", "contract_from", "load_contract"]

CONTRACT_FORMAT_VERSION = 1
"""The version of the file format; a file says ``version = 1``."""

_NONE_SPELLINGS = {"applications": "open", "key_applications": "open", "floor": "none", "ceiling": "none"}
_MAX_CONTRACT_FILE_BYTES = 1024 * 1024


def load_contract(path: str | Path) -> Contract:
    """Return the contract that a TOML file describes; a setting that it does not name keeps its default.

    Raises ContractError, with the file's name in front, for a file that can't be read, is no TOML, has another
    version, or names a setting that is unknown or can't be.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_CONTRACT_FILE_BYTES + 1)
        if len(text) > _MAX_CONTRACT_FILE_BYTES:
            raise ContractError("the file", f"is over {_MAX_CONTRACT_FILE_BYTES} bytes")
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
    fields_by_name = {spec.name: spec for spec in dataclasses.fields(Contract)}
    version = document.get("version")
    if version != CONTRACT_FORMAT_VERSION or isinstance(version, bool):
        raise ContractError("version", f"must be {CONTRACT_FORMAT_VERSION}, not {version!r}")
    kwargs: dict[str, object] = {}
    for key, value in document.items():
        if key == "version":
            continue
        if key not in fields_by_name:
            raise ContractError(key, f"there is no such setting{suggest_choices(key, fields_by_name)}")
        kwargs[key] = _convert_value(key, fields_by_name[key].type, value)
    return Contract(**kwargs)  # type: ignore[arg-type] # each value was read by its setting's type


def _convert_value(key: str, annotation: object, value: object) -> object:
    if key == "routes":
        return {**DEFAULT_ROUTES, **_parse_routes(_require_table(key, value))}
    if annotation is CredentialHeader:
        header, _, scheme = _require_string(key, value).partition(":")
        return CredentialHeader(header.strip(), scheme.strip())
    if key in _NONE_SPELLINGS and value == _NONE_SPELLINGS[key]:
        return None
    if any(get_origin(each) is tuple for each in (annotation, *get_args(annotation))):
        return _require_strings(key, value)
    if get_origin(annotation) is Mapping:
        return dict(_require_table(key, value))
    return _require_string(key, value) if annotation is str else value


def _parse_routes(table: Mapping[str, object]) -> dict[Operation, RouteTemplate]:
    routes: dict[Operation, RouteTemplate] = {}
    for name, value in table.items():
        if name not in Operation.__members__.values():
            operation_names = [operation.value for operation in Operation]
            raise ContractError(f"routes.{name}", f"there is no such operation{suggest_choices(name, operation_names)}")
        method, _, path = _require_string(f"routes.{name}", value).partition(" ")
        routes[Operation(name)] = RouteTemplate(method, path.strip())
    return routes


def _require_table(key: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ContractError(key, f"must be a table, not {value!r}")
    return cast("dict[str, object]", value)


def _require_string(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ContractError(key, f"must be a string, not {value!r}")
    return value


def _require_strings(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        alternative = f" or {_NONE_SPELLINGS[key]!r}" if key in _NONE_SPELLINGS else ""
        raise ContractError(key, f"must be a list of strings{alternative}, not {value!r}")
    return tuple(_require_string(key, item) for item in cast("list[object]", value))
