"""The report of explorations as one HTML page without external parts; a click on a cell shows its exchanges."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

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
    """Return the page for a report in its JSON form."""
    parts = [part for exploration in document["explorations"] for part in _exploration(exploration)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>fake-credits exploration</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>fake-credits exploration</h1>\n{''.join(parts)}</body></html>\n"
    )


def _exploration(exploration: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>{escape(exploration['test'])}</h2>\n"
    reason = exploration["skip_reason"] or ("state leaks between runs: findings are void" * exploration["leaks"])
    if reason:
        yield f"<p>Not explored: {escape(reason)}.</p>\n"
        return
    yield f"<p>{escape(exploration['summary'])}</p>\n{_matrix(exploration)}"
    for finding in exploration["findings"]:
        yield (
            f'<p class="{finding["colour"]}"><b>{escape(finding["heading"])}</b>: {escape(finding["text"])}<br>'
            f"Replay: <code>{escape(finding['replay'])}</code><br>"
            f"As a test: <code>{escape(finding['marker'])}</code></p>\n"
        )
    for reason, count in exploration["untried"].items():
        yield f"<p>Not tried: {count} ({escape(reason)}).</p>\n"


def _matrix(exploration: Mapping[str, Any]) -> str:
    single = [each for each in exploration["schedules"] if len(each["faults"]) == 1]
    deeper = [each for each in exploration["schedules"] if len(each["faults"]) > 1]
    labels = {each["faults"][0]["fault"]: each["faults"][0]["label"] or each["faults"][0]["fault"] for each in single}
    cells = {(each["faults"][0]["call"], each["faults"][0]["fault"]): each for each in single}
    header = "".join(f"<th>{escape(label)}</th>" for label in labels.values())
    rows = ""
    for call in exploration["calls"]:
        row = "".join(_cell(cells.get((call["call"], name))) for name in labels)
        rows += f"<tr><th>{call['number']} {escape(call['label'])}</th>{row}</tr>\n"
    more = "".join(f"<tr><th>{escape(each['schedule'])}</th>{_cell(each)}</tr>\n" for each in deeper)
    table = f"<table><tr><th></th>{header}</tr>\n{rows}</table>\n"
    return table + (f"<table><tr><th>several faults</th><th>verdict</th></tr>\n{more}</table>\n" if more else "")


def _cell(schedule: Mapping[str, Any] | None) -> str:
    if schedule is None:
        return "<td>&ndash;</td>"
    return (
        f'<td class="{schedule["colour"]}"><details><summary>{escape(schedule["verdict"])}</summary>'
        f"{_exchanges(schedule['exchanges'])}</details></td>"
    )


def _exchanges(exchanges: Sequence[Mapping[str, Any]]) -> str:
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
