"""Choosing an engine, and what is said where Sail cannot be used; what runs on it is in tests/spark, with `--engine sail`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from flowlog_udfs.cli import run_steps
from flowlog_udfs.command import main
from flowlog_udfs.engines import slots

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Spark that other tests started leaves the variable by which spark-submit is known."""
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)


def no_spark() -> None:
    raise AssertionError("Spark is not to be started")


def run(tmp_path: Path) -> int:
    words = ["--source", str(tmp_path), "--warehouse", str(tmp_path / "tables"), "--day", "2026-03-10", "--engine", "sail"]
    return run_steps("test", {}, no_spark, words)  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["pysail", "grpc"])
def test_without_sail_one_line_names_the_extra(missing: str, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pysail.spark", sys)
    monkeypatch.setattr(sys, "SparkConnectServer", no_spark, raising=False)
    monkeypatch.setitem(sys.modules, "pysail.spark" if missing == "pysail" else "grpc", None)
    assert run(tmp_path) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(rf"flowlog: --engine sail needs the package {missing}[.\w]*; install flowlog\[sail\]\n", told)


def test_under_spark_submit_it_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert run(tmp_path) == 1
    assert capsys.readouterr().err.startswith("flowlog: --engine sail under spark-submit would keep a JVM for nothing")


def test_settings_of_spark_are_refused(tmp_path, capsys):
    words = ["--source", str(tmp_path), "--warehouse", str(tmp_path / "tables"), "--day", "2026-03-10", "--engine", "sail"]
    assert main(["run", *words, "--properties-file", "spark.conf"]) == 1
    told = "flowlog: --properties-file spark.conf is for Spark; --engine sail takes its settings from the environment\n"
    assert capsys.readouterr().err == told


def test_a_session_of_sparks_has_no_slots():
    class Session:
        """A key like any session."""

    assert slots(Session()) is None  # type: ignore[arg-type]


def test_the_library_writes_no_table_through_its_engine():
    # What the guard refuses on Sail would then be ours.
    writing = re.compile(
        r"\.write\.(?!\w*_)|\.write\b(?!\()|writeTo\(|saveAsTable|insertInto|INSERT |MERGE INTO|partitionOverwriteMode|txnAppId"
    )
    sources = [path for folder in ("flowlog_udfs", "jobs") for path in (ROOT / folder).rglob("*.py") if path.name != "sail_guard.py"]
    found = [path.name for path in sources if writing.search(path.read_text())]
    assert found == []
