"""How a run is told: its log as text and as JSON, and its metrics as Prometheus and CloudWatch read them; failed runs too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowlog_udfs.cli import run_steps
from flowlog_udfs.command.submission import _ENDS, _said
from flowlog_udfs.config import Config, CostConfig, load_config
from flowlog_udfs.counts import REASONS
from flowlog_udfs.day_arguments import DayArguments
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.metrics import METRICS, METRICS_FORMATS, Measured, emf, write_metrics
from flowlog_udfs.run_log import RunLog

UNITS = (
    "Seconds|Microseconds|Milliseconds|Bytes|Kilobytes|Megabytes|Gigabytes|Terabytes|Bits|Kilobits|Megabits|Gigabits|Terabits|Percent|Count"
    "|Bytes/Second|Kilobytes/Second|Megabytes/Second|Gigabytes/Second|Terabytes/Second|Bits/Second|Kilobits/Second|Megabits/Second"
    "|Gigabits/Second|Terabits/Second|Count/Second|None"
)
EMF = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "pattern": "^(.*)$", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "minItems": 0,
                                    "maxItems": 30,
                                    "items": {"type": "string", "pattern": "^(.*)$", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {"type": "string", "pattern": "^(.*)$", "minLength": 1, "maxLength": 1024},
                                        "Unit": {"type": "string", "pattern": f"^({UNITS})$"},
                                        "StorageResolution": {"type": "integer"},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
"""The schema of the CloudWatch User Guide, "Specification: Embedded metric format", its titles and examples left out."""
NOW = datetime(2026, 3, 11, 3, tzinfo=timezone.utc)


class Session:
    """As much of a session as a job without Spark asks for."""

    conf = type("Conf", (), {"set": lambda *_: None})()


def step(spark: object, arguments: DayArguments) -> str:
    arguments.counts.update({"records": 5, "rejects": {"bad_number": 2, "too_long": 1}, "record_lag_seconds": 90.5})
    return "records    5\nwarning    one object is broken"


def broken(spark: object, arguments: DayArguments) -> str:
    arguments.counts.update({"records": 7})
    raise DayLimitError("team\n2026/AWSLogs: too many rejects")


def fault(spark: object, arguments: DayArguments) -> str:
    raise ZeroDivisionError("a fault\nof ours")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    def run(work: Any, *options: object, day: str = "2026-03-10") -> int:
        words = ["--source", tmp_path, "--warehouse", tmp_path / "tables", "--day", day, *options]
        return run_steps("test", {"ingest_records": work}, Session, [str(word) for word in words])  # type: ignore[arg-type]

    return run


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def families(text: str) -> dict[str, dict[str, float]]:
    """Values by metric, and by the label beside that of the warehouse."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            kind = [value for name, value in sample.labels.items() if name != "warehouse"]
            found.setdefault(sample.name, {})["".join(kind)] = sample.value
    return found


def test_json_has_one_object_to_a_line(run: Callable[..., int], capsys: pytest.CaptureFixture[str]):
    assert run(step, "--log-format", "json") == 0
    lines = told(capsys)
    assert [line["event"] for line in lines] == ["run_started", "step_started", "step_done", "summary", "warning", "run_done"]
    assert len({line["run_id"] for line in lines}) == 1
    assert all(re.fullmatch(r"[0-9a-f]{32}", line["run_id"]) for line in lines)
    assert all(datetime.fromisoformat(line["time"].replace("Z", "+00:00")).utcoffset().total_seconds() == 0 for line in lines)
    done = lines[2]
    assert (done["day"], done["step"], done["level"]) == ("2026-03-10", "ingest_records", "info")
    assert done["counts"] == {"records": 5, "rejects": {"bad_number": 2, "too_long": 1}, "record_lag_seconds": 90.5}
    assert 0 <= done["seconds"] < 60
    assert (lines[4]["level"], lines[4]["message"]) == ("warning", "one object is broken")
    assert (lines[5]["status"], lines[5]["counts"]["records"]) == (0, 5)


def test_each_run_has_an_id_of_its_own():
    assert RunLog().run_id != RunLog().run_id


@pytest.mark.parametrize(
    "work, options, status, message",
    [
        (broken, (), 2, r"team\n2026/AWSLogs: too many rejects"),
        (fault, (), 3, r"ZeroDivisionError: a fault\nof ours"),
        (step, ("--day", "yesterday"), 1, "argument --day: 'yesterday' is not a day; write YYYY-MM-DD; see --help"),
        (step, ("--until", "dawn\n"), 1, "argument --until: invalid choice: 'dawn"),
    ],
)
def test_errors_are_one_structured_line(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], work: Any, options: tuple[str, ...], status: int, message: str
):
    assert run(work, "--log-format", "json", *options) == status
    lines = told(capsys)
    (failed,) = [line for line in lines if line["event"] == "failed"]
    assert (failed["level"], failed["status"], failed["message"].startswith(message)) == ("error", status, True)
    assert "\n" not in failed["message"]
    assert (lines[-1]["event"], lines[-1]["status"]) == ("run_done", status)


def test_text_stays_one_line(run: Callable[..., int], capsys: pytest.CaptureFixture[str]):
    assert run(broken) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["flowlog: ingest_records: 2026-03-10 …", r"flowlog: team\n2026/AWSLogs: too many rejects"]


def test_metrics_as_prometheus_reads_them(run: Callable[..., int], tmp_path: Path):
    path = tmp_path / "flowlog.prom"
    path.write_text("what a run before has written")
    (tmp_path / "flowlog.toml").write_text("[cost]\nvcpus = 4\nvcpu_hour_price = 0.05\n")
    assert run(step, "--metrics", path, "--config", tmp_path / "flowlog.toml") == 0
    found = families(path.read_text())
    assert found["flowlog_exit_status"] == {"": 0}
    assert found["flowlog_records"] == {"": 5}
    assert found["flowlog_rejects"] == {"bad_number": 2, "too_long": 1}
    assert found["flowlog_day_timestamp_seconds"] == {"": datetime(2026, 3, 10, tzinfo=timezone.utc).timestamp()}
    assert found["flowlog_days"] == {"done": 1, "failed": 0, "passed_over": 0}
    assert set(found["flowlog_step_seconds"]) == {"ingest_records"}
    assert found["flowlog_vcpu_seconds"][""] == pytest.approx(4 * found["flowlog_run_seconds"][""])
    assert found["flowlog_estimated_cost"][""] == pytest.approx(found["flowlog_vcpu_seconds"][""] / 3600 * 0.05)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("flowlog.prom")] == ["flowlog.prom"]
    assert set(found) <= {f"flowlog_{metric.name}" for metric in METRICS}


def test_a_failed_run_tells_what_it_counted(run: Callable[..., int], tmp_path: Path):
    assert run(broken, "--metrics", tmp_path / "flowlog.prom") == 2
    found = families((tmp_path / "flowlog.prom").read_text())
    assert (found["flowlog_exit_status"], found["flowlog_records"]) == ({"": 2}, {"": 7})
    assert found["flowlog_days"]["failed"] == 1
    assert "flowlog_vcpu_seconds" not in found
    assert run(step, "--metrics", tmp_path / "flowlog.prom", "--until", "dawn") == 1
    assert families((tmp_path / "flowlog.prom").read_text())["flowlog_exit_status"] == {"": 1}


def test_metrics_as_cloudwatch_reads_them(run: Callable[..., int], tmp_path: Path):
    path = tmp_path / "flowlog.log"
    for _ in range(2):
        assert run(step, "--metrics", path, "--metrics-format", "emf") == 0
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({one["run_id"] for one in documents}) == 2
    for one in documents:
        jsonschema.validate(one, EMF)
        (directive,) = one["_aws"]["CloudWatchMetrics"]
        # MUST: each metric and dimension that is referred to is a member of the root; not more than 100 metrics.
        assert all(isinstance(one[metric["Name"]], int | float) for metric in directive["Metrics"])
        assert all(isinstance(one[name], str) for name in directive["Dimensions"][0])
        assert len(directive["Metrics"]) <= 100
        assert one["day"] == "2026-03-10"
    assert [(one["reason"], one["rejects"]) for one in documents if "reason" in one] == [("bad_number", 2), ("too_long", 1)] * 2


def test_metrics_go_to_standard_output(run: Callable[..., int], capsys: pytest.CaptureFixture[str]):
    assert run(step, "--metrics", "-", "--metrics-format", "emf") == 0
    assert "_aws" in json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run(step, "--metrics", "-") == 0
    assert "\nflowlog_exit_status{" in capsys.readouterr().out


@pytest.mark.parametrize("day, status", [("2026-03-10", 0), ("yesterday", 1)])
def test_a_warehouse_has_one_name_whether_or_not_its_run_can_begin(monkeypatch, tmp_path: Path, day: str, status: int):
    monkeypatch.chdir(tmp_path)
    words = ["--source", ".", "--warehouse", "tables", "--day", day, "--metrics", "m.prom"]
    assert run_steps("test", {"ingest_records": step}, Session, words) == status  # type: ignore[arg-type]
    [told] = [line for line in Path("m.prom").read_text().splitlines() if line.startswith("flowlog_exit_status{")]
    assert told == f'flowlog_exit_status{{warehouse="{tmp_path}/tables"}} {status}.0'


def test_days_add_up_and_lags_are_those_of_the_last():
    measured = Measured()
    for lag in (60, 30):
        measured.add({"records": 5, "rejects": {"bad_number": 1}, "record_lag_seconds": lag})
    assert measured.counts() == {"records": 10, "rejects": {"bad_number": 2}, "record_lag_seconds": 30}


def test_what_cannot_be_written_is_told(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(step, "--metrics", tmp_path / "none" / "flowlog.prom") == 1
    assert "is not a file in a folder that is there; see --help" in capsys.readouterr().err
    taken = tmp_path / "taken"

    def take(spark: object, arguments: DayArguments) -> str:
        taken.mkdir()
        return "done"

    assert run(take, "--metrics", taken) == 3
    assert f"flowlog: --metrics {taken}: cannot be written: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("form", METRICS_FORMATS)
def test_odd_names_stay_in_their_line(form: str, tmp_path: Path):
    measured = Measured()
    measured.add({"connections": {'a"}\nflowlog_records 9\\': 1}})
    write_metrics(tmp_path / "m", form, measured, warehouse='s3://b/"\n', run_id="r", day=None, now=NOW)
    text = (tmp_path / "m").read_text()
    if form == "emf":
        assert len(text.splitlines()) == 1
    else:
        assert families(text) == {"flowlog_connections": {'a"}\nflowlog_records 9\\': 1}}


def test_every_metric_has_a_name_of_its_own_in_cloudwatch():
    measured = Measured()
    measured.add({metric.name: {"kind": 1} if metric.label else 1 for metric in METRICS})
    labels = {metric.label for metric in METRICS if metric.label}
    assert labels.isdisjoint({metric.name for metric in METRICS} | {"warehouse", "run_id", "day"})
    documents = list(emf(measured, warehouse="s3://b", run_id="r", day=None, now=NOW))
    assert sorted(name["Name"] for one in documents for name in one["_aws"]["CloudWatchMetrics"][0]["Metrics"]) == sorted(
        metric.name for metric in METRICS
    )


def test_costs_change_no_digest(tmp_path: Path):
    (tmp_path / "flowlog.toml").write_text("[cost]\nvcpus = 4\n")
    found = load_config(str(tmp_path / "flowlog.toml"))
    assert found.cost == CostConfig(vcpus=4)
    assert (found.digest(), repr(found)) == (Config().digest(), repr(Config()))


def test_reasons_are_those_of_the_documentation():
    from flowlog_udfs.meanings import REJECTS

    assert set(re.findall(r"\w+_\w+", REJECTS["reason"])) == set(REASONS)


def test_the_bar_moves_by_either_form(run: Callable[..., int], capsys: pytest.CaptureFixture[str]):
    assert run(step) == 0
    as_text = capsys.readouterr().err.splitlines()
    assert run(step, "--log-format", "json") == 0
    as_json = [_said(line) for line in capsys.readouterr().err.splitlines()]
    assert as_text[0] in as_json
    assert [bool(_ENDS.match(line)) for line in (as_text[1], as_json[2])] == [True, True]
    assert _said("{not JSON") == "{not JSON"
