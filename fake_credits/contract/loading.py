"""Contract files: TOML files whose keys are the settings of `Contract`."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args, get_origin

from fake_credits.contract.model import Contract, routes_by_operation, suggest_choices
from fake_credits.contract.types import (
    DEFAULT_ROUTES,
    ContractError,
    CredentialHeader,
    RouteTemplate,
)

__all__ = ["CONTRACT_FORMAT_VERSION", "contract_from", "load_contract"]

CONTRACT_FORMAT_VERSION = 1
"""The version of the file format, which each file must declare as ``version = 1``."""

_NONE_SPELLINGS = {"applications": "open", "key_applications": "open", "floor": "none", "ceiling": "none"}
_MAX_CONTRACT_FILE_BYTES = 1024 * 1024


def load_contract(path: str | Path) -> Contract:
    """Return the contract described by a TOML file; missing settings take their default values.

    Raises ContractError, whose message starts with the file name, if the file can't be read, is not valid TOML or has
    an unsupported version, or if a setting is unknown or invalid.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_CONTRACT_FILE_BYTES + 1)
        if len(text) > _MAX_CONTRACT_FILE_BYTES:
            raise ContractError("file size", f"must be at most {_MAX_CONTRACT_FILE_BYTES} bytes")
        contract = contract_from(tomllib.loads(text.decode("utf-8")))
        # Paths are relative to the contract file, not to the working directory.
        trust = {issuer: str(Path(path).parent / keys) for issuer, keys in contract.trust.items()}
        return dataclasses.replace(contract, trust=trust) if trust else contract
    except ContractError as error:
        raise ContractError(str(path), str(error)) from None
    except OSError as error:
        raise ContractError(str(path), f"the file can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError is also raised for huge integers
        raise ContractError(str(path), f"not valid TOML: {error}") from None


def contract_from(document: Mapping[str, object]) -> Contract:
    """Return the contract described by a parsed document; raise ContractError if it is invalid."""
    fields_by_name = {spec.name: spec for spec in dataclasses.fields(Contract)}
    version = document.get("version")
    if version != CONTRACT_FORMAT_VERSION or isinstance(version, bool):
        problem = "but is missing" if version is None else f"not {version!r}"
        raise ContractError("version", f"must be {CONTRACT_FORMAT_VERSION}, {problem}")
    kwargs: dict[str, object] = {}
    for key, value in document.items():
        if key == "version":
            continue
        if key not in fields_by_name:
            raise ContractError(key, f"unknown setting{suggest_choices(key, fields_by_name)}")
        kwargs[key] = _convert_value(key, fields_by_name[key].type, value)
    return Contract(**kwargs)  # type: ignore[arg-type] # each value has been converted to the type of its setting


def _convert_value(key: str, annotation: object, value: object) -> object:
    if key == "routes":
        routes = {name: _parse_route(f"routes.{name}", text) for name, text in _require_table(key, value).items()}
        return {**DEFAULT_ROUTES, **routes_by_operation(routes)}
    if annotation is CredentialHeader:
        header, _, scheme = _require_string(key, value).partition(":")
        return CredentialHeader(header.strip(), scheme.strip())
    if key in _NONE_SPELLINGS and value == _NONE_SPELLINGS[key]:
        return None
    if any(get_origin(each) is tuple for each in (annotation, *get_args(annotation))):
        if not isinstance(value, list):
            alternative = f" or {_NONE_SPELLINGS[key]!r}" if key in _NONE_SPELLINGS else ""
            raise ContractError(key, f"must be a list of strings{alternative}, not {value!r}")
        return tuple(_require_string(key, item) for item in cast("list[object]", value))
    if get_origin(annotation) is Mapping:
        return dict(_require_table(key, value))
    return _require_string(key, value) if annotation is str else value


def _parse_route(key: str, value: object) -> RouteTemplate:
    method, _, path = _require_string(key, value).partition(" ")
    return RouteTemplate(method, path.strip())


def _require_table(key: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ContractError(key, f"must be a table, not {value!r}")
    return cast("dict[str, object]", value)


def _require_string(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ContractError(key, f"must be a string, not {value!r}")
    return value
