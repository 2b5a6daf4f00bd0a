"""The OpenAPI 3.1 document of a contract."""

import http
import re
from collections.abc import Collection
from typing import Any

from fake_credits.contract import MAX_AMOUNT, MAX_BODY_BYTES, Contract, Operation
from fake_credits.contract.model import success_statuses
from fake_credits.errors import ERRORS
from fake_credits.http_message import reason_phrase
from fake_credits.models import Reason

Json = dict[str, Any]  # Any, because type checkers handle recursive JSON types poorly

_SUMMARIES = {
    Operation.CREATE_USER: "Create or update a user (idempotent)",
    Operation.GET_USER: "Get user information",
    Operation.LIST_USERS: "List all users in the application",
    Operation.GET_BALANCE: "Get user's credit balance",
    Operation.CREATE_TRANSACTION: "Create a credit transaction (grant/consume/refund)",
    Operation.LIST_TRANSACTIONS: "List user's transaction history",
}
_DESCRIPTIONS = {
    Operation.CREATE_USER: "Creates the user with a balance of 0, or returns the existing one.",
    Operation.GET_USER: "Returns the user, including the time of creation.",
    Operation.LIST_USERS: "Returns one page of the application's users.",
    Operation.GET_BALANCE: "Returns the sum of the user's transactions.",
    Operation.CREATE_TRANSACTION: "Changes the user's balance. A repeated call adds another transaction.",
    Operation.LIST_TRANSACTIONS: "Returns one page of the user's transactions.",
}
_TAGS = {
    "Users": ("The users of an application", (Operation.CREATE_USER, Operation.GET_USER, Operation.LIST_USERS)),
    "Transactions": (
        "The balances and transactions of users",
        (Operation.GET_BALANCE, Operation.CREATE_TRANSACTION, Operation.LIST_TRANSACTIONS),
    ),
}
_CREDENTIAL_RULES = {
    "refuse": "a request with both is rejected",
    "key": "if both are sent, the API key is used",
    "token": "if both are sent, the token is used",
}
_LIST_OPERATIONS = (Operation.LIST_USERS, Operation.LIST_TRANSACTIONS)
_BODY_OPERATIONS = (Operation.CREATE_USER, Operation.CREATE_TRANSACTION)

# The error codes that only some operations can return, with those operations
_OPERATIONS_BY_CODE: dict[str, tuple[Operation, ...]] = {
    "insufficient_credits": (Operation.CREATE_TRANSACTION,),
    "balance_limit_exceeded": (Operation.CREATE_TRANSACTION,),
    "malformed_json": _BODY_OPERATIONS,
    "unsupported_media_type": _BODY_OPERATIONS,
    "invalid_cursor": _LIST_OPERATIONS,
    "insufficient_scope": (Operation.CREATE_USER, Operation.LIST_USERS, Operation.CREATE_TRANSACTION),
    "user_not_found": tuple(each for each in Operation if each not in (Operation.CREATE_USER, Operation.LIST_USERS)),
}
# Python regular expression syntax that JSON Schema (ECMA-262) does not support
_PYTHON_ONLY_REGEX = re.compile(r"\(\?[aiLmsuxP]|\\[AZ]")
_COMMON_HEADERS = ("X-Request-Id", "Cache-Control")
_CORS_HEADERS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
_REQUIRED_HEADERS = (*_COMMON_HEADERS, "X-Fake-Credits-Cause", "WWW-Authenticate")
_HEADER_DESCRIPTIONS = {
    "X-Request-Id": "the id of this exchange in the journal",
    "Cache-Control": "`no-store`",
    "X-Fake-Credits-Cause": "the cause of an error: `fault:…`, `auth:…`, `validation`, `domain`, `routing`, `limit`, "
    "`host`, `bug`",
    "WWW-Authenticate": "the challenge (RFC 6750)",
    "Allow": "the methods that the path supports",
    "Retry-After": "when to retry",
    "Access-Control-Allow-Origin": "sent if the contract allows the Origin of the request",
    "Access-Control-Expose-Headers": "sent if the contract allows the Origin of the request",
    "Vary": "`Origin`, sent if the contract lists the Origin of the request",
}


def openapi_document(contract: Contract, version: str) -> Json:
    """Return the OpenAPI document; ``version`` is the package's version."""
    paths: dict[str, Json] = {}
    for operation, route in contract.routes.items():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation_object(contract, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Credits Management API (fake-credits)",
            "version": version,
            "description": "The API that fake-credits serves under this contract. Not affiliated with ocx-inc.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": description} for tag, (description, _) in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(contract),
            "responses": {
                _response_name(status): _error_response(contract, status, codes)
                for status, codes in _codes_by_status(contract).items()
            },
            "headers": {
                name: {"description": doc, "required": name in _REQUIRED_HEADERS, "schema": {"type": "string"}}
                for name, doc in _HEADER_DESCRIPTIONS.items()
            },
            "securitySchemes": _security_schemes(contract),
        },
    }


def _operation_object(contract: Contract, operation: Operation) -> Json:
    operation_object: Json = {
        "operationId": operation.value,
        "summary": _SUMMARIES[operation],
        "description": f"{_DESCRIPTIONS[operation]} {_credential_rule(contract, operation)}",
        "tags": [tag for tag, (_, operations) in _TAGS.items() if operation in operations],
        "security": [{"apiKey": []}] if operation.requires_api_key else [{"apiKey": []}, {"userToken": []}],
        "parameters": _parameters(contract, operation),
    }
    if operation in _BODY_OPERATIONS:
        operation_object["requestBody"] = _request_body(operation)
    operation_object["responses"] = {**_success_responses(contract, operation), **_error_responses(contract, operation)}
    return operation_object


def _credential_rule(contract: Contract, operation: Operation) -> str:
    if operation.requires_api_key:
        return "Requires the API key."
    rule = _CREDENTIAL_RULES[contract.both_credentials]
    return f"Requires either the API key or a token for this user; {rule}."


def _parameters(contract: Contract, operation: Operation) -> list[Json]:
    names = ["applicationId"] if operation is Operation.LIST_USERS else ["applicationId", "userId"]
    id_schema: Json = {
        "type": "string",
        "minLength": 1,
        "maxLength": contract.id_max_length,
        "description": "Must not contain control characters or be `.` or `..`.",
    }
    if contract.id_pattern and _PYTHON_ONLY_REGEX.search(contract.id_pattern):
        id_schema["description"] += f" Must fully match the Python regular expression {contract.id_pattern}"
    elif contract.id_pattern:
        id_schema["pattern"] = f"^(?:{contract.id_pattern})$"
    descriptions = {"applicationId": "Id of the application", "userId": "Id of the user"}
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "description": descriptions[name], "schema": id_schema}
        for name in names
    ]
    if operation in _LIST_OPERATIONS:
        next_cursor = contract.name_of("nextCursor")
        description = f"`{next_cursor}` of the previous page. Omit it for the first page; an empty cursor is rejected."
        cursor_schema: Json = {"type": "string", "minLength": 1}
        parameters.append(_query_parameter(contract.cursor_parameter, description, cursor_schema))
        if contract.limit_parameter:
            limit_schema: Json = {"type": "integer", "minimum": 1, "maximum": 1000, "default": contract.page_size}
            parameters.append(_query_parameter(contract.limit_parameter, "Entries per page.", limit_schema))
    return parameters


def _query_parameter(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _request_body(operation: Operation) -> Json:
    if operation is Operation.CREATE_USER:
        schema: Json = {"type": "object", "additionalProperties": False}
        return {"required": False, "content": {"application/json": {"schema": schema}}}
    content = {"application/json": {"schema": _schema_reference("CreateTransactionRequest")}}
    return {"required": True, "description": f"At most {MAX_BODY_BYTES} bytes.", "content": content}


def _success_responses(contract: Contract, operation: Operation) -> Json:
    schema = {
        Operation.CREATE_USER: "User",
        Operation.GET_USER: "User",
        Operation.LIST_USERS: "ListUsersResponse",
        Operation.GET_BALANCE: "GetBalanceResponse",
        Operation.CREATE_TRANSACTION: "CreateTransactionResponse",
        Operation.LIST_TRANSACTIONS: "ListTransactionsResponse",
    }[operation]
    response: Json = {
        "description": "Success",
        "headers": _header_references(*_COMMON_HEADERS, *_cors_header_names(contract)),
    }
    if operation is not Operation.CREATE_TRANSACTION or contract.created_transaction != "empty":
        response["content"] = {"application/json": {"schema": _schema_reference(schema)}}
    return {str(status): response for status in sorted(success_statuses(contract, operation))}


def _error_responses(contract: Contract, operation: Operation) -> Json:
    """Return references to the shared error responses, keyed by status, each with the codes of this operation."""
    return {
        str(status): {
            "$ref": f"#/components/responses/{_response_name(status)}",
            "description": _describe_codes(status, codes),
        }
        for status, codes in _codes_by_status(contract, operation).items()
    }


def _codes_by_status(contract: Contract, operation: Operation | None = None) -> dict[int, list[str]]:
    """Return the error codes of one operation, or of all operations by default, grouped by their HTTP status."""
    by_status: dict[int, list[str]] = {}
    for code, error in ERRORS.items():
        if (operation is None or operation in _OPERATIONS_BY_CODE.get(code, (operation,))) and (
            code != "application_not_found" or contract.applications is not None
        ):
            by_status.setdefault(contract.status_of(error), []).append(code)
    return dict(sorted(by_status.items()))


def _response_name(status: int) -> str:
    """Return the name of an error response, such as NotFound."""
    words = re.findall(r"[A-Za-z]+", reason_phrase(status))
    return "".join(word.capitalize() for word in words) or f"Status{status}"


def _describe_codes(status: int, codes: Collection[str]) -> str:
    return f"{reason_phrase(status) or 'Error'}: {', '.join(codes)}"


def _error_response(contract: Contract, status: int, codes: Collection[str]) -> Json:
    header_names = [*_COMMON_HEADERS, "X-Fake-Credits-Cause", *_cors_header_names(contract)]
    header_names += ["WWW-Authenticate"] if status == http.HTTPStatus.UNAUTHORIZED else []
    header_names += ["Allow"] if "method_not_allowed" in codes else []
    header_names += ["Retry-After"] if "rate_limited" in codes and contract.retry_after != "absent" else []
    media_type = "application/problem+json" if contract.error_body == "problem" else "application/json"
    return {
        "description": _describe_codes(status, codes),
        "headers": _header_references(*header_names),
        "content": {media_type: {"schema": _schema_reference("ApiError")}},
    }


# ------------------------------------------------------------ components


def _schemas(contract: Contract) -> Json:
    name_of = contract.name_of
    created_at: Json = {"type": "integer"}
    if contract.created_at in ("iso_ms", "iso_s"):
        created_at = {"type": "string", "format": "date-time"}
    delta: Json = {
        "type": "integer",
        "minimum": -MAX_AMOUNT,
        "maximum": MAX_AMOUNT,
        "not": {"const": 0},
        "description": "Change in the balance, in credits; "
        + ("positive for grant and refund, negative for consume." if contract.sign == "by_reason" else "not 0."),
    }
    transaction_input: Json = {name_of("delta"): delta, name_of("reason"): _schema_reference("CreditTransactionReason")}
    transaction = _object_schema({**transaction_input, name_of("createdAt"): created_at})
    user = {
        name_of("applicationId"): {"type": "string"},
        name_of("userId"): {"type": "string"},
        name_of("createdAt"): created_at,
    }
    return {
        "CreditTransactionReason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "CreateTransactionRequest": {**_object_schema(transaction_input), "additionalProperties": False},
        "CreateTransactionResponse": _created_transaction_schema(
            contract, {**transaction_input, name_of("createdAt"): created_at}
        ),
        "Transaction": transaction,
        "User": _object_schema(user),
        "GetBalanceResponse": _object_schema({name_of("balance"): _balance_schema(contract)}),
        "ListUsersResponse": _page_schema(contract, "users", "User"),
        "ListTransactionsResponse": _page_schema(contract, "transactions", "Transaction"),
        **_error_schemas(contract),
    }


def _created_transaction_schema(contract: Contract, members: Json) -> Json:
    if contract.created_transaction == "wrapped":
        return _object_schema({contract.name_of("transaction"): _object_schema(members)})
    if contract.created_transaction == "id":
        return _object_schema({**members, contract.name_of("id"): {"type": "string"}})
    if contract.created_transaction == "balance":
        return _object_schema({**members, contract.name_of("balance"): _balance_schema(contract)})
    return _object_schema(members)


def _balance_schema(contract: Contract) -> Json:
    balance: Json = {"type": "integer"}
    if contract.floor is not None:
        balance["minimum"] = contract.floor
    return balance if contract.ceiling is None else {**balance, "maximum": contract.ceiling}


def _page_schema(contract: Contract, member: str, item: str) -> Json:
    cursor: Json = {"type": ["string", "null"] if contract.end_of_list == "null" else "string"}
    items: Json = {contract.name_of(member): {"type": "array", "items": _schema_reference(item)}}
    required_cursor = () if contract.end_of_list == "absent" else (contract.name_of("nextCursor"),)
    last_page = {"absent": "Absent", "null": "Null", "empty": "An empty string"}[contract.end_of_list]
    cursor["description"] = f"The cursor of the next page. {last_page} on the last page."
    return _object_schema({**items, contract.name_of("nextCursor"): cursor}, required=(*items, *required_cursor))


def _error_schemas(contract: Contract) -> Json:
    text: Json = {"type": "string"}
    members: Json = {"code": text, "message": text}
    if contract.error_body == "flat":
        return {"ApiError": _object_schema(members)}
    members = {**members, "requestId": text}
    if contract.error_body == "problem":
        members = {"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "code": text}
        members["requestId"] = text
    details: Json = {"type": "array", "items": _schema_reference("ErrorDetail")}
    members["code"] = {"type": "string", "description": "One of the codes listed in the response's description."}
    members["requestId"] = {"type": "string", "description": "The value of the X-Request-Id header."}
    details["description"] = "The invalid fields."
    error = _object_schema({**members, "details": details}, required=tuple(members))
    schemas: Json = {"ErrorDetail": _object_schema({"field": text, "problem": text})}
    if contract.error_body == "nested":
        return {"ApiError": _object_schema({"error": _schema_reference("ErrorBody")}), "ErrorBody": error, **schemas}
    return {"ApiError": error, **schemas}


def _object_schema(members: Json, *, required: tuple[str, ...] | None = None) -> Json:
    return {"type": "object", "properties": members, "required": list(members if required is None else required)}


def _cors_header_names(contract: Contract) -> tuple[str, ...]:
    if not contract.cors_origins:
        return ()
    return _CORS_HEADERS[:2] if "*" in contract.cors_origins else _CORS_HEADERS


def _header_references(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security_schemes(contract: Contract) -> Json:
    key: Json = {"type": "apiKey", "in": "header", "name": contract.api_key.header}
    if contract.api_key.header.lower() == "authorization" and contract.api_key.scheme:
        key = {"type": "http", "scheme": contract.api_key.scheme.lower()}
    token: Json = {"type": "apiKey", "in": "header", "name": contract.user_token.header}
    if contract.user_token.header.lower() == "authorization" and contract.user_token.scheme:
        token = {"type": "http", "scheme": contract.user_token.scheme.lower()}
        if token["scheme"] == "bearer":  # the only scheme for which a format is allowed (OpenAPI 3.1, section 4.8.27)
            token["bearerFormat"] = "JWT"
    return {"apiKey": key, "userToken": token}


def _schema_reference(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
