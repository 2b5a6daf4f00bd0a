"""Own the wire as data: what the API's README leaves open, decided here, and nowhere else."""

from fake_credits.contract.ids import id_problem
from fake_credits.contract.model import DEFAULT, Contract, Setting, settings
from fake_credits.contract.parts import (
    BODY_LIMIT_BYTES,
    FIELD_NAMES,
    MAX_AMOUNT,
    ContractError,
    CreatedAtForm,
    HeaderForm,
    Operation,
    RouteTemplate,
)
from fake_credits.contract.times import created_at_to_json, json_to_created_at

__all__ = [
    "BODY_LIMIT_BYTES",
    "DEFAULT",
    "FIELD_NAMES",
    "MAX_AMOUNT",
    "Contract",
    "ContractError",
    "CreatedAtForm",
    "HeaderForm",
    "Operation",
    "RouteTemplate",
    "Setting",
    "created_at_to_json",
    "id_problem",
    "json_to_created_at",
    "settings",
]
