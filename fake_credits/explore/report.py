"""The text report of an exploration, the summary of several, and report files in JSON, HTML and other formats."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

from fake_credits.explore.ci_reports import (
    JsonObject,
    reason_not_explored,
    render_junit,
    render_markdown,
    single_faults,
)
from fake_credits.explore.exploration import Exploration, JudgedRun
from fake_credits.explore.findings import Finding, find_findings
from fake_credits.explore.judge import Colour, Judgement
from fake_credits.explore.runs import ObservedCall
from fake_credits.explore.schedules import CallFault, CallKey, sort_faults
from fake_credits.text import escape_control, pluralize, truncate

_FINE = (Colour.GREEN, Colour.NOTE)
_FINE_LABEL = "fine"
_MAX_ROWS = 40
_NOT_APPLICABLE = "\N{EN DASH}"
_NOT_TRIED = "…"
_WIDTH = 110


def summarize(exploration: Exploration) -> str:
    """Return a one-line summary: the numbers of schedules and orders that were run, in total and by verdict."""
    parts = [summarize_runs(exploration.results)] if exploration.results or not exploration.orders else []
    if exploration.orders:
        diverged = exploration.diverged_count
        parts.append(summarize_runs(exploration.orders, "order") + (f" ({diverged} diverged)" if diverged else ""))
    return "; ".join(parts)


def summarize_runs(results: Iterable[JudgedRun], noun: str = "schedule") -> str:
    """Return a one-line summary: the number of runs, in total and by verdict."""
    counts = count_verdicts(results)
    total, fine = counts.total(), counts.pop(_FINE_LABEL, 0)
    parts = [f"{fine} {_FINE_LABEL}"] if fine or not counts else []
    parts += [f"{count} {verdict}" for verdict, count in counts.most_common()]
    return f"{pluralize(total, noun)}: {', '.join(parts)}"


def count_verdicts(results: Iterable[JudgedRun]) -> Counter[str]:
    """Return the number of runs with each verdict; green verdicts and notes count as ``fine``."""
    judgements = (judged.judgement for judged in results)
    return Counter(_FINE_LABEL if each.colour in _FINE else each.verdict.value for each in judgements)


def render_report(exploration: Exploration) -> str:
    """Return the text report: totals, the matrix of calls and faults, findings, and what was not tried."""
    matrix = _matrix(exploration)
    lines = [f"fake-credits: {summarize(exploration)}", "", *matrix, *([""] if matrix else [])]
    for finding in find_findings(exploration):
        lines += [*_finding_lines(finding), ""]
    if exploration.diverged_count:
        lines.append(f"Diverged: {pluralize(exploration.diverged_count, 'run')} (the test varies from run to run)")
    lines += [f"Not tried: {count} ({reason})" for reason, count in exploration.untried.items()]
    lines += [f"Note: {note}" for note in exploration.notes]
    return "\n".join(lines).rstrip()


def _finding_lines(finding: Finding) -> list[str]:
    lines = wrap(f"{finding.heading}: {finding.text}", _WIDTH)
    if finding.replay:
        lines.append(f"Replay:    {finding.replay}")
    if finding.marker:
        lines.append(f"As a test: {finding.marker}")
    if finding.gate_test:
        lines += ["As a test:", "", *finding.gate_test.splitlines()]
    return lines


def _matrix(exploration: Exploration) -> list[str]:
    cells: dict[tuple[CallKey | int, str], Judgement] = {}
    faults: dict[str, CallFault] = {}
    for judged in exploration.results:
        if len(judged.run.schedule) == 1:
            key, fault = judged.run.schedule[0]
            cells[key, fault.name] = judged.judgement
            faults[fault.name] = fault
    if not cells:
        return []
    columns = [faults[name] for name in sort_faults(faults)]
    rows = [("", *(fault.label or fault.name for fault in columns))]
    calls = exploration.reference.application_calls
    for call in calls[:_MAX_ROWS]:
        label = f"{call.number} {truncate(call.key.label)}"
        rows.append((label, *(_cell(cells, call.key, fault) for fault in columns)))
    lines = _align(rows, [index for index, fault in enumerate(columns) if fault.lasts])
    return lines + (["… " + pluralize(len(calls) - _MAX_ROWS, "more call")] if len(calls) > _MAX_ROWS else [])


def _cell(cells: dict[tuple[CallKey | int, str], Judgement], key: CallKey, fault: CallFault) -> str:
    judgement = cells.get((key, fault.name))
    if judgement is None:
        only_once = fault.name in ("silent", "silent_after")
        return _NOT_APPLICABLE if only_once or not fault.applies_to(key.operation) else _NOT_TRIED
    text = judgement.verdict.value
    return text.upper() if judgement.colour is Colour.RED else text


def _align(rows: Sequence[Sequence[str]], lasting: Sequence[int]) -> list[str]:
    """Return the lines of an aligned table, with bars after the first column and before the columns in ``lasting``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = f"{cells[0]} │ "
        for index, cell in enumerate(cells[1:]):
            line += (" │ " if index in lasting and index else "  " if index else "") + cell
        lines.append(line.rstrip())
    return lines


FORMAT_VERSION = 1
"""The version of the report format."""

_MAX_LISTED = 10


def exploration_to_json(exploration: Exploration, *, with_schedules: bool = True) -> dict[str, Any]:
    """Return an exploration as a JSON object, optionally without the calls and schedules, which make it large."""
    return {
        "test": exploration.name,
        "skip_reason": exploration.skip_reason,
        "leaks": exploration.leaks,
        "is_red": bool(exploration.red),
        "duration_s": round(exploration.duration_s, 6),
        "summary": summarize(exploration),
        "verdicts": dict(count_verdicts(exploration.results)),
        "order_verdicts": dict(count_verdicts(exploration.orders)),
        "diverged": exploration.diverged_count,
        "calls": [
            {"number": call.number, "call": str(call.key), "label": call.key.label}
            for call in (exploration.reference.application_calls if with_schedules else ())
        ],
        "schedules": [_schedule_to_json(judged) for judged in exploration.results] if with_schedules else [],
        "orders": [_schedule_to_json(judged) for judged in exploration.orders] if with_schedules else [],
        "findings": [
            {
                "verdict": finding.verdict.value,
                "colour": finding.colour.value,
                "heading": finding.heading,
                "text": finding.text,
                "schedules": [judged.text for judged in finding.runs[:_MAX_LISTED]],
                "replay": finding.replay,
                "marker": finding.marker,
                "gate_test": finding.gate_test,
            }
            for finding in find_findings(exploration)
        ],
        "untried": dict(exploration.untried),
        "notes": list(exploration.notes),
        "sleeps": [[seconds, where] for seconds, where in exploration.sleeps],
    }


def _schedule_to_json(judged: JudgedRun) -> dict[str, Any]:
    run, judgement = judged.run, judged.judgement
    return {
        "schedule": judged.text,
        "faults": [{"call": str(call), "fault": fault.name, "label": fault.label} for call, fault in run.schedule],
        "verdict": judgement.verdict.value,
        "colour": judgement.colour.value,
        "detail": escape_control(judgement.detail),
        "outcome": run.outcome.status,
        "error_type": run.outcome.error_type,
        "exchanges": [_call_to_json(call) for call in run.calls],
    }


def _call_to_json(call: ObservedCall) -> dict[str, Any]:
    entry = call.entry
    return {
        "number": call.number,
        "operation": call.operation,
        "user": call.user,
        "delta": call.delta,
        "fault": call.fault,
        "status": entry.status if entry else 0,
        "committed": bool(entry and entry.committed),
        "delivered": bool(entry and entry.delivered),
    }


def summary_lines(documents: Sequence[JsonObject]) -> Iterator[str]:
    """Yield the lines of the summary: totals, amber findings, what was not explored or not tried, and real sleeps."""
    explored = [document for document in documents if not document["skip_reason"] and not document["leaks"]]
    counts, orders, untried = (_total(explored, name) for name in ("verdicts", "order_verdicts", "untried"))
    counted = f"{pluralize(len(explored), 'test')} explored, {pluralize(counts.total(), 'schedule')}"
    yield _with_totals(counted, counts)
    if orders:
        yield _with_totals(pluralize(orders.total(), "order"), orders)
    if diverged := sum(document["diverged"] for document in explored):
        yield f"{pluralize(diverged, 'run')} diverged: the tests vary from run to run"
    yield from _amber_findings(explored)
    yield from _not_explored(documents)
    for reason, count in untried.items():
        yield f"not tried: {count:,} ({reason})"
    sleeps = sorted((tuple(sleep) for document in explored for sleep in document["sleeps"]), reverse=True)
    for seconds, where in sleeps[:_MAX_LISTED]:
        yield f"real sleep of {seconds:g} s at {where}: inject credits.sleep, which takes no time"


def _with_totals(counted: str, counts: Counter[str]) -> str:
    totals = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{counted}: {totals}" if totals else counted


def _total(documents: Sequence[JsonObject], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for document in documents:
        total.update(document[name])
    return total


def _amber_findings(documents: Sequence[JsonObject]) -> Iterator[str]:
    lines = [
        f"{document['test']}: {finding['heading']}: --fake-credits-schedule '{finding['schedules'][0]}'"
        for document in documents
        for finding in document["findings"]
        if finding["colour"] == Colour.AMBER.value
    ]
    yield from lines[:_MAX_LISTED]
    if len(lines) > _MAX_LISTED:
        omitted = len(lines) - _MAX_LISTED
        yield f"{omitted} more {'finding that does' if omitted == 1 else 'findings that do'} not fail a test"


def _not_explored(documents: Sequence[JsonObject]) -> Iterator[str]:
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for document in documents:
        reason = document["skip_reason"]
        if document["leaks"]:
            reason = "the last fault-free run failed: state leaks between runs, so the findings are unreliable"
        if reason:
            by_reason[reason].append(document["test"])
    for reason, tests in by_reason.items():
        more = f" and {len(tests) - _MAX_LISTED} more" if len(tests) > _MAX_LISTED else ""
        yield f"not explored: {len(tests)} ({reason}): {', '.join(tests[:_MAX_LISTED])}{more}"


def write_report(path: str, documents: Sequence[JsonObject]) -> None:
    """Write explorations to a file, in the format that its suffix indicates (JSON by default)."""
    report_format = _FORMATS_BY_SUFFIX.get(Path(path).suffix.lower(), "json")
    Path(path).write_text(render_documents(report_format, documents), encoding="utf-8")


def render_documents(report_format: str, documents: Sequence[JsonObject]) -> str:
    """Return explorations as text in one of the `REPORT_FORMATS`."""
    return REPORT_FORMATS[report_format]({"version": FORMAT_VERSION, "explorations": list(documents)})


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1b1b1b }
h2 { font-size: 1rem; margin: 2.5rem 0 .5rem; font-family: ui-monospace, monospace }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { padding: .2rem .6rem; text-align: left; border: 1px solid #d0d0d0 }
th { background: #f4f4f4; font-weight: 600 } td { vertical-align: top } summary { cursor: pointer }
code { font-size: .85em; background: #f4f4f4; padding: .1rem .3rem; word-break: break-all }
.red { background: #ffd9d6 } .amber { background: #fff0c2 }
.green, .note { background: #e3f5e1 } .grey { background: #ececec }
"""


def render_html(document: Mapping[str, Any]) -> str:
    """Return a JSON report as an HTML page."""
    parts = [part for exploration in document["explorations"] for part in _html_exploration(exploration)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>fake-credits exploration</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>fake-credits exploration</h1>\n{''.join(parts)}</body></html>\n"
    )


def _html_exploration(exploration: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>{escape(exploration['test'])}</h2>\n"
    reason = reason_not_explored(exploration)
    if reason:
        yield f"<p>Not explored: {escape(reason)}.</p>\n"
        return
    yield f"<p>{escape(exploration['summary'])}</p>\n{_html_matrix(exploration)}"
    for finding in exploration["findings"]:
        yield (
            f'<p class="{finding["colour"]}"><b>{escape(finding["heading"])}</b>: {escape(finding["text"])}<br>'
            + "<br>".join(_html_reproductions(finding))
            + "</p>\n"
        )
    for reason, count in exploration["untried"].items():
        yield f"<p>Not tried: {count} ({escape(reason)}).</p>\n"
    for note in exploration["notes"]:
        yield f"<p>{escape(note)}</p>\n"


def _html_reproductions(finding: Mapping[str, Any]) -> Iterator[str]:
    if finding["replay"]:
        yield f"Replay: <code>{escape(finding['replay'])}</code>"
    if finding["marker"]:
        yield f"As a test: <code>{escape(finding['marker'])}</code>"
    if finding["gate_test"]:
        yield f"As a test:</p>\n<pre>{escape(finding['gate_test'])}</pre>\n<p>"


def _html_matrix(exploration: Mapping[str, Any]) -> str:
    labels, cells = single_faults(exploration)
    deeper = [each for each in exploration["schedules"] if len(each["faults"]) > 1]
    header = "".join(f"<th>{escape(label)}</th>" for label in labels.values())
    rows = ""
    for call in exploration["calls"]:
        row = "".join(_html_cell(cells.get((call["call"], name))) for name in labels)
        rows += f"<tr><th>{call['number']} {escape(call['label'])}</th>{row}</tr>\n"
    table = f"<table><tr><th></th>{header}</tr>\n{rows}</table>\n" if labels else ""
    return table + _html_list("several faults", deeper) + _html_list("orders", exploration["orders"])


def _html_list(heading: str, schedules: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(f"<tr><th>{escape(each['schedule'])}</th>{_html_cell(each)}</tr>\n" for each in schedules)
    return f"<table><tr><th>{heading}</th><th>verdict</th></tr>\n{rows}</table>\n" if rows else ""


def _html_cell(schedule: Mapping[str, Any] | None) -> str:
    if schedule is None:
        return "<td>&ndash;</td>"
    return (
        f'<td class="{schedule["colour"]}"><details><summary>{escape(schedule["verdict"])}</summary>'
        f"{_html_exchanges(schedule['exchanges'])}</details></td>"
    )


def _html_exchanges(exchanges: Sequence[Mapping[str, Any]]) -> str:
    rows = ""
    for each in exchanges:
        delta = "" if each["delta"] is None else f" {each['delta']:+}"
        values = (
            each["number"] or "test",
            each["operation"] + delta,
            each["user"],
            each["fault"],
            each["status"],
            "yes" if each["committed"] else "no",
            "yes" if each["delivered"] else "no",
        )
        rows += "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in values) + "</tr>"
    names = ("call", "operation", "user", "fault", "status", "committed", "delivered")
    return "<table><tr>" + "".join(f"<th>{name}</th>" for name in names) + f"</tr>{rows}</table>"


REPORT_FORMATS: Mapping[str, Callable[[JsonObject], str]] = {
    "json": lambda document: json.dumps(document, indent=1) + "\n",
    "html": render_html,
    "junit": render_junit,
    "markdown": render_markdown,
}
"""The functions that render a report, keyed by format name."""

_FORMATS_BY_SUFFIX = {".html": "html", ".htm": "html", ".xml": "junit", ".md": "markdown"}
