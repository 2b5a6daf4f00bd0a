"""Draw the peer comparison as an SVG chart, with one panel of bars for each measure."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_LABEL_PX, _BAR_PX, _VALUE_PX, _ROW_PX, _TITLE_PX, _MARGIN_PX = 200, 380, 110, 18, 34, 16
_WIDTH_PX = _LABEL_PX + _BAR_PX + _VALUE_PX + 2 * _MARGIN_PX
_OURS, _THEIRS, _BACKGROUND, _TEXT = "#56d364", "#6e7681", "#161b22", "#e6edf3"


class Panel(NamedTuple):
    """The bars for one measure: a title with the unit, and the name and value of each peer that has a value."""

    title: str
    bars: Sequence[tuple[str, float]]


def draw_chart(panels: Sequence[Panel]) -> str:
    """Return the chart. Lower is better in each panel, and each panel has its own linear scale."""
    parts: list[str] = []
    y_px = _MARGIN_PX
    for panel in panels:
        y_px += _TITLE_PX
        parts.append(_text(_MARGIN_PX, y_px - 12, panel.title, ' font-weight="bold"'))
        longest = max((value for _, value in panel.bars), default=1.0)
        for name, value in panel.bars:
            width_px = max(value / longest * _BAR_PX, 1.0)
            x_px = _MARGIN_PX + _LABEL_PX
            colour = _OURS if name.startswith("fake-credits") else _THEIRS
            parts += [
                _text(_MARGIN_PX, y_px + 12, name),
                f'<rect x="{x_px}" y="{y_px + 2}" width="{width_px:.1f}" height="12" fill="{colour}"/>',
                _text(round(x_px + width_px + 6), y_px + 12, format_value(value)),
            ]
            y_px += _ROW_PX
    height_px = y_px + _MARGIN_PX
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {height_px}" width="{_WIDTH_PX}" '
        f'height="{height_px}" role="img" font-family="system-ui, sans-serif" font-size="12" fill="{_TEXT}">'
    )
    title = "<title>What a call costs with fake-credits and with other tools</title>"
    background = f'<rect width="{_WIDTH_PX}" height="{height_px}" rx="8" fill="{_BACKGROUND}"/>'
    return "\n".join([head, title, background, *parts, "</svg>"]) + "\n"


def format_value(value: float) -> str:
    """Format a number with at most three significant digits, or as an integer if it is 100 or more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _text(x_px: int, y_px: int, text: str, style: str = "") -> str:
    return f'<text x="{x_px}" y="{y_px}"{style}>{escape(text, quote=False)}</text>'
