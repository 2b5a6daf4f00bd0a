"""The source of a test that reproduces an order of calls with a gate, to paste into a suite."""

import inspect
import json
from collections.abc import Iterator
from textwrap import indent
from types import CodeType

from fake_credits.explore.order_scheduler import GatePlan

_FIXTURE = "fake_credits"


def render_gate_test(plan: GatePlan, code: CodeType, *, is_loop: bool = False) -> str:
    """Return a test that calls the one with the ``code``, and releases its calls in an order.

    For a loop, return what to put around its block, whose sandbox is called ``credits``.
    """
    imports = "from concurrent.futures import ThreadPoolExecutor\n\n"
    own_imports = "\nfrom fake_credits.explore.loop_tasks import unshuffled_trio\n" if plan.on_trio else ""
    if is_loop:
        body = "\n".join(_gate_lines(plan, "credits", "...  # the block of the loop"))
        return f"{imports.rstrip()}\n{own_imports}\n{body}\n"
    name, arguments = code.co_name, [*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    is_method = arguments[:1] == ["self"]
    parameters = arguments if _FIXTURE in arguments else [*arguments[:is_method], _FIXTURE, *arguments[is_method:]]
    passed = ", ".join(f"{argument}={argument}" for argument in arguments[is_method:])
    is_async = bool(code.co_flags & inspect.CO_COROUTINE)
    call = f"{'await ' if is_async else ''}{'self.' if is_method else ''}{name}({passed})"
    new_name = f"{name}_in_failing_order"
    definition = "\n".join(
        [
            f"@pytest.mark.{_FIXTURE}(explore=False)",
            f"{'async ' if is_async else ''}def {new_name}({', '.join(parameters)}):",
            *(indent(line, "    ") for line in _gate_lines(plan, _FIXTURE, call)),
            "",
            "",
            f'{new_name}.pytestmark += getattr({name}, "pytestmark", [])',
        ]
    )
    if is_method:
        definition = f"# in the class of {name}:\n{indent(definition, '    ')}"
    return f"{imports}import pytest\n{own_imports}\n\n{definition}\n"


def _gate_lines(plan: GatePlan, sandbox: str, call: str) -> Iterator[str]:
    yield f"gate = {sandbox}.hold()"
    yield ""
    yield "def release_in_order():"
    yield "    for arrived, call in ["
    for release in plan.releases:
        yield f"        ({release.arrived}, {json.dumps(release.selector)}),  # {release.label}"
    yield "    ]:"
    yield "        gate.wait_for(arrived)"
    yield "        gate.release(order=[call], keep=True)"
    yield "    gate.release()"
    yield ""
    yield f"with {'unshuffled_trio(), ' if plan.on_trio else ''}ThreadPoolExecutor() as pool:"
    yield "    released = pool.submit(release_in_order)"
    yield f"    {call}"
    yield "    released.result()"
