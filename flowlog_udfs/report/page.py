"""A report's document as one HTML page that loads nothing: style, script, charts and findings are in it.

Everything that comes from logs is escaped by the template engine; what the script shows it sets as text. The page's own policy (CSP) lets
no request out, and allows by their hashes this style sheet and this script alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from flowlog_udfs.report import charts

FIRST_ROWS = 100
"""Findings that stand in the page itself; the script pages through all of them."""
SEVERITIES = ("critical", "high", "medium", "low", "info")


def render(document: Mapping[str, Any]) -> str:
    """The page of a document (`report-1.schema.json`); the same document gives the same bytes."""
    subnets, measures = document["subnets"], document["changes"]["measures"]
    drawn, rules = charts.classed(
        {one["name"]: charts.trend([*one["days"][::-1], one["today"]], f"{one['name']} by day") for one in measures}
        | {"by_hour": charts.by_hour(subnets), "heatmap": charts.heatmap(subnets)}
    )
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=document,
            style=Markup(_asset("report.css")) + rules,  # noqa: S704 - our own file
            script=Markup(_asset("report.js")),  # noqa: S704 - our own file
            rows=_island(_compact(document["findings"], document["day"])) if len(document["findings"]) > FIRST_ROWS else None,
            first_rows=FIRST_ROWS,
            severities=SEVERITIES,
            charts=drawn,
        )
    )


def _compact(findings: Sequence[Mapping[str, Any]], day: str) -> dict[str, Any]:
    """Findings as rows of cells, the words that repeat as places in lists: what the script pages through."""
    words: dict[str, dict[str, int]] = {name: {} for name in ("rule", "severity", "status", "vpc_id", "controls", "exception")}

    def place(name: str, word: str) -> int:
        return words[name].setdefault(word, len(words[name]))

    rows = []
    for one in findings:
        coded = [place(name, str(one[name] or "")) for name in ("rule", "severity", "status", "vpc_id")]
        example = next(iter(one["examples"]), None)
        shown = f"{example['initiator']} → {example['responder']} {example['protocol']}" if example else ""
        shown += f"; {len(one['examples']) - 1} more in report.json" if len(one["examples"]) > 1 else ""
        named = [one["finding_id"], place("controls", ", ".join(one["controls"])), place("exception", _exception(one["exception"]))]
        counts = [one["connections"], one["bytes_sent"] + one["bytes_received"]]
        rows.append([*coded, one["subject"], one["summary"], *counts, _seen(one, day), one["since"], shown, *named])
    return {"words": {name: list(places) for name, places in words.items()}, "rows": rows}


def _island(values: object) -> Markup:
    """JSON that can stand in a script element: no value in it can end the element or open a comment."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - escaped above


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "bytes": charts.human_bytes,
        "count": lambda value: f"{value:,}",
        "time": _time,
        "seen": _seen,
        "exception": _exception,
        "share": lambda value: f"{value:.0%}",
        "hash": lambda text: f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}",
    }
    return environment


def _time(text: str | None, day: str = "") -> str:
    """`2026-03-10T12:00:00Z` as a person reads it, without the date where it is that of the report."""
    return "" if text is None else text.replace("T", " ").removesuffix("Z").removeprefix(f"{day} ")


def _seen(finding: Mapping[str, Any], day: str) -> str:
    """From when to when a finding was seen."""
    first, last = (_time(finding[name], day)[:-3] for name in ("first_seen", "last_seen"))
    return first if first == last else f"{first} – {last}"


def _exception(exception: Mapping[str, Any] | None) -> str:
    """An exception in a line: its ticket, who answers for it, and until when."""
    if exception is None:
        return ""
    told = f"Exception {exception['ticket']}: owner {exception['owner']}, approved by {exception['approver']}, until {exception['expires']}"
    return f"{told} ({exception['business_need']})"


def _asset(name: str) -> str:
    return files("flowlog_udfs.report").joinpath(name).read_text(encoding="utf-8")
