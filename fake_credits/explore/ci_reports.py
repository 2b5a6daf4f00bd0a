"""Reports as JUnit XML and Markdown, for CI and pull request comments, rendered from the JSON report."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from fake_credits.explore.judge import Colour
from fake_credits.explore.schedules import sort_faults
from fake_credits.text import escape_control, pluralize

_MAX_ROWS = 40
_MAX_FINDINGS = 20  # a GitHub comment is limited to 65,536 characters
_ICONS = {Colour.RED.value: "\N{LARGE RED CIRCLE}", Colour.AMBER.value: "\N{LARGE ORANGE CIRCLE}"}
_PASSED_ICON = "\N{LARGE GREEN CIRCLE}"
_MARKDOWN_CHARS = re.compile(r"([\\`*_{}\[\]<>|#~&])")

JsonObject = Mapping[str, Any]


def single_faults(exploration: JsonObject) -> tuple[dict[str, str], dict[tuple[str, str], JsonObject]]:
    """Return the faults' labels by name, in column order, and the single-fault schedules by call and fault."""
    single = [each for each in exploration["schedules"] if len(each["faults"]) == 1]
    labels = {each["faults"][0]["fault"]: each["faults"][0]["label"] or each["faults"][0]["fault"] for each in single}
    labels = {name: labels[name] for name in sort_faults(labels)}
    return labels, {(each["faults"][0]["call"], each["faults"][0]["fault"]): each for each in single}


def reason_not_explored(exploration: JsonObject) -> str:
    """Return why a test was not explored or why its findings are unreliable, or an empty string if neither applies."""
    reason: str = exploration["skip_reason"]
    return reason or ("state leaks between runs, so the findings are unreliable" if exploration["leaks"] else "")


def render_junit(document: JsonObject) -> str:
    """Return JUnit XML with a test suite for each exploration and a test case for each schedule or order."""
    suites = Element("testsuites", name="fake-credits")
    for exploration in document["explorations"]:
        name, schedules = escape_control(exploration["test"]), [*exploration["schedules"], *exploration["orders"]]
        suite = SubElement(suites, "testsuite", name=name, time=str(exploration["duration_s"]))
        reason = reason_not_explored(exploration)
        if reason:
            SubElement(SubElement(suite, "testcase", classname=name, name="exploration"), "skipped", message=reason)
            schedules = []
        for schedule in schedules:
            case = SubElement(suite, "testcase", classname=name, name=escape_control(schedule["schedule"]))
            if schedule["colour"] == Colour.RED.value:
                failure = SubElement(case, "failure", message=schedule["verdict"], type=schedule["verdict"])
                failure.text = _finding_text(exploration, schedule)
            elif schedule["colour"] == Colour.GREY.value:
                SubElement(case, "skipped", message=schedule["verdict"])
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
        suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
        if exploration["notes"]:
            SubElement(suite, "system-out").text = escape_control("; ".join(exploration["notes"]))
    indent(suites)
    return tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _finding_text(exploration: JsonObject, schedule: JsonObject) -> str:
    for finding in exploration["findings"]:
        if finding["verdict"] == schedule["verdict"] and schedule["schedule"] in finding["schedules"]:
            text = escape_control(f"{finding['heading']}: {finding['text']}")
            gate_test = finding["gate_test"]
            return f"{text}\nAs a test:\n\n{gate_test}" if gate_test else f"{text}\nReplay: {finding['replay']}"
    return escape_control(schedule["detail"])


def render_markdown(document: JsonObject) -> str:
    """Return Markdown for a pull request comment or a job summary on GitHub or GitLab."""
    return "\n".join(line for exploration in document["explorations"] for line in _markdown(exploration)) + "\n"


def _markdown(exploration: JsonObject) -> Iterator[str]:
    reason, colours = reason_not_explored(exploration), [each["colour"] for each in exploration["findings"]]
    icon = next((_ICONS[colour] for colour in _ICONS if colour in colours), _PASSED_ICON)
    yield from (f"### {'' if reason else icon + ' '}fake-credits: {_code(exploration['test'])}", "")
    if reason:
        yield from (f"Not explored: {_text(reason)}.", "")
        return
    yield from (f"{_text(exploration['summary'])}.", "", *_markdown_matrix(exploration), "")
    for finding in exploration["findings"][:_MAX_FINDINGS]:
        yield from (f"**{_ICONS[finding['colour']]} {_text(finding['heading'])}**: {_text(finding['text'])}", "")
        yield from ("```", finding["replay"] or finding["gate_test"].rstrip(), "```", "")
    left_out = len(exploration["findings"]) - _MAX_FINDINGS
    if left_out > 0:
        yield from (f"{pluralize(left_out, 'more finding')}.", "")
    for untried, count in exploration["untried"].items():
        yield f"- Not tried: {count} ({_text(untried)})"
    for note in exploration["notes"]:
        yield f"- Note: {_text(note)}"


def _markdown_matrix(exploration: JsonObject) -> Iterator[str]:
    labels, cells = single_faults(exploration)
    if not cells:
        return
    yield f"| | {' | '.join(map(_text, labels.values()))} |"
    yield "|---" * (1 + len(labels)) + "|"
    calls = exploration["calls"]
    for call in calls[:_MAX_ROWS]:
        verdicts = " | ".join(_markdown_cell(cells.get((call["call"], name))) for name in labels)
        yield f"| {_code('{number} {label}'.format_map(call))} | {verdicts} |"
    if len(calls) > _MAX_ROWS:
        yield from ("", f"{pluralize(len(calls) - _MAX_ROWS, 'more call')}.")


def _markdown_cell(schedule: JsonObject | None) -> str:
    if schedule is None:
        return "\N{EN DASH}"
    icon = _ICONS.get(schedule["colour"], "")
    return f"{icon} **{schedule['verdict']}**" if icon else str(schedule["verdict"])


def _code(text: str) -> str:
    """Return the text as inline code, in which GitHub ignores @mentions."""
    return f"`{escape_control(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _text(text: str) -> str:
    """Return the text with Markdown escaped and with @mentions defused, so that they don't notify GitHub users."""
    return _MARKDOWN_CHARS.sub(r"\\\1", escape_control(text)).replace("@", "@\N{ZERO WIDTH SPACE}")
