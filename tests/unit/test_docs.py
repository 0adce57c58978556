"""What the documentation shows is so: examples are worked out, snippets run, links lead somewhere, and no key or option is left out."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flowlog_udfs.arguments import STEP_NAMES, add_day_arguments, add_maintenance
from flowlog_udfs.config import Config
from flowlog_udfs.metrics import METRICS
from flowlog_udfs.policy.model import Allow, Approval, Connections, Expected, FirstSeen, Gaps, Segment, Spread, Volume
from tests.unit.analysing import analyse
from tests.unit.reading import ANNOUNCED, lines, read

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "conf").rglob("*.md"))]


def page(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in linked if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_are_there(path: Path) -> None:
    named = set(
        re.findall(r"`?\b((?:jobs|conf|docs|notebooks|flowlog_udfs)/[\w./-]+\.(?:py|toml|conf|md|json|yaml|ipynb))", path.read_text())
    )
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_announced_example_is_worked_out_so(tmp_path: Path) -> None:
    text = page("docs/attribution.md")
    shown = re.search(r"<!-- read by the tests -->\n```\n(.*?)```", text, re.S)[1].splitlines()
    records = read(lines(*shown), folder=tmp_path).records
    (row,) = analyse(records, {"fl-1": ANNOUNCED.names}, date(2019, 8, 20)).rows()["connections"]
    claims = re.search(r"\| column \| value \|\n\|---\|---\|\n(.*?)\n\n", text, re.S)[1].splitlines()
    assert len(claims) == 7
    for claim in claims:
        names, values = (cell.strip() for cell in claim.strip("|").split("|"))
        assert [str(row[name]) for name in re.findall(r"`(\w+)`", names)] == values.split(", ")
    assert row["responder_instance_id"] is None


def keys_of_a_policy() -> set[str]:
    kinds = (Connections, Spread, Volume, FirstSeen, Gaps)
    parts = (*kinds, Segment, Expected, Approval, Allow)
    written = {"source": "from", "target": "to"}
    return {written.get(f.name, f.name) for part in parts for f in fields(part)} - {"approval"}


def test_the_policy_reference_has_every_key() -> None:
    named = set(re.findall(r"`(\w+)`", page("docs/policy.md")))
    assert keys_of_a_policy() <= named


def test_the_example_configuration_has_every_key() -> None:
    text = page("conf/flowlog.toml")
    for section in (Config().ingest, Config().attribution, Config().cost):
        assert [f.name for f in fields(section) if not re.search(rf"^{f.name} = ", text, re.M)] == []


def test_the_readme_has_every_option() -> None:
    parser = argparse.ArgumentParser()
    add_day_arguments(parser, STEP_NAMES, backfills=True)
    options = {one for action in parser._actions for one in action.option_strings if one.startswith("--")}
    assert [one for one in sorted(options - {"--help"}) if f"`{one}" not in page("README.md") and f"{one} " not in page("README.md")] == []


def test_every_metric_is_in_the_table() -> None:
    rows = re.findall(r"^\| `flowlog_(\w+)` \| (?:`(\w+)`)? ?\| (.*) \|$", page("docs/operations.md"), re.M)
    assert rows == [(metric.name, metric.label or "", metric.meaning) for metric in METRICS]


def test_the_upkeep_has_every_option_of_its_own() -> None:
    parser = argparse.ArgumentParser()
    add_maintenance(parser)
    day = argparse.ArgumentParser()
    add_day_arguments(day, STEP_NAMES, backfills=True)
    own = {action.option_strings[0] for action in parser._actions} - {action.option_strings[0] for action in day._actions}
    assert own == {"--retain-days", "--dry-run"}
    assert [one for one in sorted(own) if one not in page("docs/operations.md")] == []


def test_the_script_for_other_platforms_runs_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    script = re.search(r"<!-- executed by the tests -->\n```python\n(.*?)```", page("docs/clusters.md"), re.S)[1]
    given: list[list[str]] = []

    def run_steps(description: str, steps: object, session: object, argv: list[str], remaining: object) -> int:
        given.append(argv)
        return len(given) - 1

    names: dict[str, Any] = {}
    monkeypatch.setattr("flowlog_udfs.cli.run_steps", run_steps)
    exec(compile(script, "docs/clusters.md", "exec"), names)
    names["run_day"]("s3://logs", "s3://tables", "2026-03-10")
    assert given == [["--source", "s3://logs", "--warehouse", "s3://tables", "--day", "2026-03-10"]]
    with pytest.raises(RuntimeError, match="status 1"):
        names["run_day"]("s3://logs", "s3://tables", "2026-03-10")
