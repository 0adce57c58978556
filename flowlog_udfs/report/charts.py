"""Charts of a report as inline SVG, drawn by matplotlib.

The same figures give the same bytes: ids come from a fixed salt and no date is written. Colours are variables of the page's style sheet, so
that a chart follows light and dark; text is text, for readers and for search.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from math import log1p
from typing import Any

from markupsafe import Markup, escape

INK, MUTED, IN, OUT = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins that the page's colours take the place of: axes and text, grid, what came in, what went out."""
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--line)", IN: "var(--in)", OUT: "var(--out)"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "flowlog",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
HEATMAP_ROWS = 20
LABEL_CHARACTERS = 40


def by_hour(subnets: Sequence[Mapping[str, object]]) -> Markup:
    """Bytes of all subnets in each hour, what came in above the axis and what went out below it."""
    into, out = ([sum(one[name][hour] for one in subnets) for hour in range(24)] for name in ("hours_in", "hours_out"))  # type: ignore[index]
    figure, axes = _figure(8, 2.6)
    axes.bar(range(24), into, width=0.8, color=IN)
    axes.bar(range(24), [-value for value in out], width=0.8, color=OUT)
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02d}" for hour in range(0, 24, 3)])
    axes.yaxis.set_major_formatter(lambda value, _: human_bytes(abs(int(value))))
    axes.set_xlabel("hour (UTC)")
    peak = max(range(24), key=lambda hour: into[hour] + out[hour])
    told = f"Received {human_bytes(sum(into))}, sent {human_bytes(sum(out))}; most in the hour from {peak:02d}:00 UTC."
    return _svg(figure, "Bytes of all subnets by hour, received upwards, sent downwards", told)


def heatmap(subnets: Sequence[Mapping[str, object]]) -> Markup:
    """Bytes of the largest subnets in each hour, the stronger the colour the more, on a logarithmic scale."""
    rows = subnets[:HEATMAP_ROWS]
    moved = [[one["hours_in"][hour] + one["hours_out"][hour] for hour in range(24)] for one in rows]  # type: ignore[index]
    most = max((value for row in moved for value in row), default=0) or 1
    figure, axes = _figure(8, 0.8 + 0.26 * max(len(rows), 1))
    for number, row in enumerate(moved):
        for hour, value in enumerate(row):
            axes.barh(number, 0.94, left=hour, height=0.88, color=IN, alpha=0.03 + 0.97 * (log1p(value) / log1p(most)) ** 3)
    axes.set_yticks(range(len(rows)), [_label(str(one["subnet_id"] or "unknown")) for one in rows])
    axes.set_xticks([hour + 0.47 for hour in range(0, 24, 3)], [f"{hour:02d}" for hour in range(0, 24, 3)])
    axes.set_xlim(0, 24)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("hour (UTC)")
    for side in axes.spines.values():
        side.set_visible(False)
    return _svg(figure, f"Bytes of the {len(rows)} largest subnets by hour", f"The strongest cell is {human_bytes(most)}.")


def trend(values: Sequence[int | None], label: str) -> Markup:
    """A measure over the days before and this one, the oldest first; unknown days are left out."""
    figure, axes = _figure(1.5, 0.36)
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    axes.plot([place for place, _ in known], [value for _, value in known], color=IN, linewidth=1.5)
    axes.plot(*([one] for one in known[-1]), marker="o", markersize=4, color=OUT)
    axes.margins(0.08, 0.2)
    axes.axis("off")
    return _svg(figure, label, ", ".join("unknown" if value is None else f"{value:,}" for value in values))


def _label(text: str) -> str:
    """An id as it stands in a chart: short, and without what matplotlib reads as a formula or SVG as markup; the tables have it whole."""
    return re.sub(r"[^\w.:/ -]", "?", text[:LABEL_CHARACTERS], flags=re.ASCII)


def classed(charts: Mapping[str, Markup]) -> tuple[dict[str, Markup], Markup]:
    """The charts with a class in place of each style attribute, and the rules of the classes: a page's policy (CSP) allows a style sheet
    by its hash, but attributes all or none.
    """
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return f'class="{names.setdefault(found[1], f"s{len(names)}")}"'

    plain = {chart: Markup(re.sub(r'style="([^"]*)"', name, drawn)) for chart, drawn in charts.items()}  # noqa: S704 - only attributes changed
    return plain, Markup("".join(f".{name} {{ {style} }}\n" for style, name in names.items()))  # noqa: S704 - matplotlib's own words


def human_bytes(count: int) -> str:
    """Bytes in decimal units, three figures at most."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def _figure(width: float, height: float):  # type: ignore[no-untyped-def]
    import matplotlib
    from matplotlib.figure import Figure

    # Only this drawing's settings: a notebook's own are left as they are.
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure, title: str, description: str) -> Markup:  # type: ignore[no-untyped-def]
    import matplotlib

    sink = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    # Its style sheet is one rule for everything, which report.css has for charts alone.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    # Ids are salted alike in every chart of the page, so each gets a name of its own.
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    opening = f'<svg role="img" aria-labelledby="{name}-title {name}-desc" class="chart" '
    labels = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    head, _, rest = text.partition(">")
    return Markup(opening + head.removeprefix("<svg ") + ">" + labels + rest)  # noqa: S704 - matplotlib's, with escaped words
