"""The HTTP contract of the API, including every choice that the API README leaves open."""

from fake_credits.contract.model import DEFAULT_CONTRACT, Contract, ContractSetting, id_problem, settings
from fake_credits.contract.types import (
    FIELD_NAMES,
    MAX_AMOUNT,
    MAX_BODY_BYTES,
    ContractError,
    CredentialHeader,
    Operation,
    OperationName,
    RouteTemplate,
    TimestampFormat,
    created_at_from_json,
    created_at_to_json,
)

__all__ = [
    "DEFAULT_CONTRACT",
    "FIELD_NAMES",
    "MAX_AMOUNT",
    "MAX_BODY_BYTES",
    "Contract",
    "ContractError",
    "ContractSetting",
    "CredentialHeader",
    "Operation",
    "OperationName",
    "RouteTemplate",
    "TimestampFormat",
    "created_at_from_json",
    "created_at_to_json",
    "id_problem",
    "settings",
]
