"""Findings: what went wrong, whether the application could have known about it, and how to reproduce it."""

import inspect
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import indent
from types import CodeType

from fake_credits.explore.exploration import Exploration, JudgedRun
from fake_credits.explore.judge import Colour, Verdict
from fake_credits.explore.order_scheduler import GatePlan
from fake_credits.explore.runs import ObservedCall, Run
from fake_credits.explore.schedules import FAULTS, UNSENT_TWINS, CallFault, Injection
from fake_credits.faults.declarations import rule_to_json
from fake_credits.text import escape_control, pluralize, redact, truncate

_COLOUR_ORDER = (Colour.RED, Colour.AMBER)
_MAX_ALIKE = 3
_MIN_SHOWN_WAIT_S = 0.5
_MAX_ERROR_CHARS = 200
_FIXTURE = "fake_credits"

_FAULT_TEXTS = {
    "refused": "{call} was refused with 503 before it took effect",
    "lost_before": "the connection was reset before {call} took effect",
    "lost_after": "the response to {call} was lost after the write was committed",
    "unreadable": "the response to {call} was replaced by a proxy's error page (502){committed}",
    "silent": "{call} got no response and did not take effect",
    "silent_after": "{call} got no response, although its write was committed",
    "down": "from {call} on, every call was refused with 503",
    "stale": "{call} returned stale data, without the last write",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and the runs that share its verdict and first faulted call, in order of schedule length.

    ``replay`` is a command that repeats the first run. ``marker`` is a decorator that makes the test fail in the same
    way, without exploration if possible; it is empty if a command was explored. If the problem is caused by the order
    of calls, the runs are grouped by verdict only, ``replay`` and ``marker`` are empty, and ``gate_test`` is the source
    of a test that reproduces the first run's order.
    """

    verdict: Verdict
    colour: Colour
    runs: tuple[JudgedRun, ...]
    heading: str
    text: str
    replay: str
    marker: str
    gate_test: str = ""


def find_findings(exploration: Exploration) -> list[Finding]:
    """Return the red findings of an exploration, then the amber ones."""
    groups: dict[tuple[object, ...], list[JudgedRun]] = {}
    for judged in exploration.results:
        if judged.judgement.colour in _COLOUR_ORDER:
            first = judged.run.schedule[0].call
            groups.setdefault((judged.judgement.colour, judged.judgement.verdict, first), []).append(judged)
    findings = [_describe(exploration, runs) for runs in groups.values()]
    orders: dict[Verdict, list[JudgedRun]] = {}
    for judged in exploration.orders:
        if judged.judgement.colour in _COLOUR_ORDER:
            orders.setdefault(judged.judgement.verdict, []).append(judged)
    findings += [_describe_orders(exploration, runs) for runs in orders.values()]
    return sorted(findings, key=lambda finding: _COLOUR_ORDER.index(finding.colour))


def _describe(exploration: Exploration, runs: list[JudgedRun]) -> Finding:
    runs.sort(key=lambda judged: len(judged.run.schedule))
    shortest = runs[0]
    sentences = [*_sentences(exploration, shortest), *_alike(runs)]
    where = " + ".join(_position(injection, exploration) for injection in shortest.run.schedule)
    return Finding(
        shortest.judgement.verdict,
        shortest.judgement.colour,
        tuple(runs),
        _heading(shortest, where),
        _printable(" ".join(sentences), shortest.run),
        f"pytest {shlex.quote(exploration.name)} --fake-credits-schedule {shlex.quote(shortest.text)}"
        if exploration.command is None
        else exploration.command.replay(shortest.text),
        _marker(shortest) if exploration.command is None else "",
    )


def _alike(runs: Sequence[JudgedRun]) -> Iterator[str]:
    if len(runs) > 1:
        texts = [f'"{judged.text}"' for judged in runs[1 : 1 + _MAX_ALIKE]]
        more = ", …" if len(runs) > 1 + _MAX_ALIKE else ""
        yield f"And {len(runs) - 1} more with the same verdict: {', '.join(texts)}{more}."


def _heading(judged: JudgedRun, where: str) -> str:
    verdict = judged.judgement.verdict.value
    return f"{verdict[0].upper()}{verdict[1:]} ({where})"


def _describe_orders(exploration: Exploration, runs: list[JudgedRun]) -> Finding:
    """Return a finding for runs with the same verdict but different call orders; its text describes the first run."""
    first = runs[0]
    judgement, plan, code = first.judgement, first.gate_plan or GatePlan(()), exploration.code
    order = ", ".join(f"{number} {release.label}" for number, release in enumerate(plan.releases, start=1))
    sentences = [f"the test does not pass when calls are released in this order: {order}.", *_alike(runs)]
    sentences += _other_sentences(first.run, judgement.verdict, judgement.calls, judgement.detail)
    return Finding(
        judgement.verdict,
        judgement.colour,
        tuple(runs),
        _heading(first, f"{first.text} of {len(exploration.orders)}"),
        _printable(" ".join(sentences), first.run),
        "",
        "",
        render_gate_test(plan, code, is_loop=exploration.is_loop) if code else "",
    )


def _printable(text: str, run: Run) -> str:
    return escape_control(redact(text, run.secrets[0] if run.secrets else ""))


def _position(injection: Injection, exploration: Exploration) -> str:
    call, fault = injection
    number = call if isinstance(call, int) else exploration.numbers.get(call, 0)
    return f"{number or call}, {fault.label or fault.name}"


def _sentences(exploration: Exploration, judged: JudgedRun) -> Iterator[str]:
    run, judgement = judged.run, judged.judgement
    yield f"{'; '.join(_fault_texts(run))}."
    verdict = judgement.verdict
    if verdict in (Verdict.CHARGED_TWICE, Verdict.GIVEN_TWICE, Verdict.FAILED_READ):
        yield from _money_sentences(exploration, run, judgement.calls)
        yield from _knowledge_sentences(exploration, run)
    elif verdict in (Verdict.FALSE_SUCCESS, Verdict.PASSES_WITHOUT):
        yield "A write from the fault-free run is missing, but the test passed anyway."
        yield (
            "It does fail if every call is refused, so here it mistook a failure for success."
            if verdict is Verdict.FALSE_SUCCESS
            else "It passes even if every call is refused: it does not check what was written."
        )
        if verdict is Verdict.FALSE_SUCCESS and exploration.command is not None:
            yield "This is fine if the command handles the failure, which its exit code can't show."
    elif verdict is Verdict.UNSETTLED:
        write = judgement.calls[0]
        yield f"The write from call {write.number} stays committed, but the application gave up without reading"
        yield f"{write.user}'s balance or history, so it can't know whether it has to try again."
    elif verdict is Verdict.SILENT_REFUSAL:
        yield "Nothing was written, but the application did not report the failure;"
        yield "the test noticed it only in the ledger."
    elif verdict is Verdict.KEY_MISUSE:
        keys = [call.entry.idempotency_key for call in judgement.calls if call.entry]
        yield f"The application used {judgement.detail}: {', '.join(list(dict.fromkeys(keys))[:3])}."
    else:
        yield from _other_sentences(run, verdict, judgement.calls, judgement.detail)


def _other_sentences(run: Run, verdict: Verdict, calls: Sequence[ObservedCall], detail: str) -> Iterator[str]:
    if verdict is Verdict.HANG:
        yield f"The application {'seems to have' if run.hang else 'has'} no timeout: {detail}."
    elif verdict is Verdict.STORM:
        yield f"The application made {len(run.application_calls)} calls and was stopped."
    elif verdict is Verdict.RETRIED_REFUSAL:
        status = calls[0].entry.status if calls and calls[0].entry else 0
        yield f"The application sent the same write again after a {status}, which a retry can't fix."
    elif verdict is Verdict.SECRET:
        yield f"The error message ({detail}) contains the API key or a token."
    elif detail:
        yield f"{detail[0].upper()}{detail[1:]}."
    if run.outcome.error:
        first_line = _printable(run.outcome.error.partition("\n")[0], run)
        yield f"The test failed with {run.outcome.error_type}: {truncate(first_line, _MAX_ERROR_CHARS)}"


def _fault_texts(run: Run) -> Iterator[str]:
    faults, told = {fault.name: fault for _, fault in run.schedule}, set[str]()
    for call in run.faulted_calls:
        fault = faults.get(call.fault)
        if fault is not None and not (fault.lasts and fault.name in told):
            told.add(fault.name)
            template = _FAULT_TEXTS.get(fault.name, (fault.label or fault.name) + " was injected at {call}")
            committed = " after the write was committed" if call.is_committed else ""
            yield template.format(call=f"call {call.number} ({call.key.label})", committed=committed)
    if run.not_met:
        yield "a fault had no matching call"


def _money_sentences(exploration: Exploration, run: Run, calls: Sequence[ObservedCall]) -> Iterator[str]:
    writes = [call for call in calls if call.is_committed]
    first, repeated = writes[0], writes[-1]
    balances = f"{pluralize(run.balance_of(first), 'credit')} instead of {exploration.reference.balance_of(first):,}"
    if len(writes) == 1:
        text = f"Call {first.number} committed a write that the fault-free run does not make"
        yield f"{text}: {first.user} has {balances}."
        return
    waited_s = (repeated.at_ms - first.at_ms) / 1000
    later = f", {waited_s:g} s later" if waited_s >= _MIN_SHOWN_WAIT_S else ""
    key = repeated.entry.idempotency_key if repeated.entry else ""
    yield f"The application sent the same write again (call {repeated.number}{later}, {_key_text(key)}), and"
    yield f"it was committed {len(writes)} times: {first.user} has {balances}."
    if key:
        yield "The contract ignores Idempotency-Key; if your API honours it, this may be a false alarm."


def _key_text(key: str) -> str:
    return f"Idempotency-Key {key}" if key else "no Idempotency-Key"


def _knowledge_sentences(exploration: Exploration, run: Run) -> Iterator[str]:
    """Yield an explanation if the application could not have known whether its write was committed."""
    call, fault = run.schedule[0]
    twin = UNSENT_TWINS.get(fault.name)
    if twin is None or len(run.schedule) > 1:
        return
    for other in exploration.results:
        if other.run.schedule == (Injection(call, FAULTS[twin]),) and _reaction(other.run) == _reaction(run):
            label = FAULTS[twin].label
            yield f'The application could not have known whether its write was committed: "{label}" looks the same'
            yield "to it, and it reacted to that fault in the same way."


def _reaction(run: Run) -> list[object]:
    return [call.request for call in run.application_calls]


def _marker(judged: JudgedRun) -> str:
    """Return a marker that reproduces the run's failure, without exploration if possible."""
    run = judged.run
    if run.outcome.status != "failed":
        return f"@pytest.mark.fake_credits(explore={{'schedules': [{judged.text!r}]}})  # above the test's own marker"
    calls_by_fault: dict[str, list[ObservedCall]] = {}
    for call in run.faulted_calls:
        calls_by_fault.setdefault(call.fault, []).append(call)
    rules: list[dict[str, object]] = []
    for _, fault in run.schedule:
        call = calls_by_fault[fault.name].pop(0)
        rules.append(_rule_members(fault, call))
    return f"@pytest.mark.fake_credits(faults={rules!r})"


def _rule_members(fault: CallFault, call: ObservedCall) -> dict[str, object]:
    members = {name: value for name, value in rule_to_json(fault.rule).items() if name not in ("name", "operation")}
    if fault.lasts:
        return {**members, "after": call.ordinal - 1}
    return {**members, "operation": call.operation, "at": call.ordinal}


def render_gate_test(plan: GatePlan, code: CodeType, *, is_loop: bool = False) -> str:
    """Return the source of a test that runs the test defined by ``code`` and releases its calls in the planned order.

    If ``is_loop`` is true, return the code to put around the loop's body instead; in it, the sandbox is named
    ``credits``.
    """
    imports = "from concurrent.futures import ThreadPoolExecutor\n\n"
    own_imports = "\nfrom fake_credits.explore.loop_tasks import unshuffled_trio\n" if plan.on_trio else ""
    if is_loop:
        body = "\n".join(_gate_lines(plan, "credits", "...  # the body of your loop"))
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
        definition = f"# in the same class as {name}:\n{indent(definition, '    ')}"
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
