"""The scripts of the comparison with other engines: on a small day, in text and in Parquet, each gives the same numbers as flowlog."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.benchmarks.agreement import compare
from tests.benchmarks.days import DAY, SampleDay, sample_day
from tests.benchmarks.engines import ENGINES, ROOT, Engine, python_of

pytestmark = pytest.mark.slow

MIDNIGHT = round(datetime(DAY.year, DAY.month, DAY.day, tzinfo=timezone.utc).timestamp())
FLOWLOG, *PEERS = (engine for engine in ENGINES if not engine.floor)


@pytest.fixture(scope="module")
def environments() -> dict[str, str]:
    """The Python of each engine's environment."""
    try:
        return {name: python_of(name) for name in {engine.environment for engine in (FLOWLOG, *PEERS)}}
    except RuntimeError as error:
        if "status 75" in str(error):
            pytest.skip("the packages of other engines cannot be had")
        raise


@pytest.fixture(scope="module", params=["announcement", "v5", "parquet"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SampleDay:
    return sample_day(tmp_path_factory.mktemp("logs"), 5_000, request.param, objects=3)


@pytest.fixture(scope="module")
def warehouse(day: SampleDay, environments: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What flowlog makes of the day."""
    return done(FLOWLOG, day, tmp_path_factory.mktemp("flowlog") / "warehouse", environments)


def done(engine: Engine, day: SampleDay, output: Path, environments: dict[str, str]) -> Path:
    command = engine.command("d", day.source, output, DAY, environments)
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return output


@pytest.mark.parametrize("engine", PEERS, ids=lambda engine: engine.name)
def test_gives_the_same_numbers_as_flowlog(engine: Engine, day: SampleDay, warehouse: Path, environments: dict[str, str], tmp_path: Path):
    if day.source.name.endswith("parquet") and not engine.reads_parquet:
        pytest.skip("cannot read Parquet flow logs")
    output = done(engine, day, tmp_path / "output", environments)
    found = compare("d", FLOWLOG.tables("d", warehouse), engine.tables("d", output), day.columns, MIDNIGHT)
    assert found.faults == []
    assert len(found.said) == 3
