"""What Sail does wrongly without a word, and that a session of ours refuses it before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from flowlog_udfs import engines
from flowlog_udfs.errors import UsageError

pytestmark = pytest.mark.sail_only

BEFORE = [(1, "a"), (2, "b")]
Damage = Callable[[SparkSession, DataFrame, str], None]


def option(**options: str) -> Damage:
    """An overwrite with the row of day 2, with options of the writer."""

    def damage(_: SparkSession, row: DataFrame, path: str) -> None:
        row.write.format("delta").mode("overwrite").partitionBy("day").options(**options).save(path)

    return damage


def setting(name: str, value: str) -> Damage:
    """The same with a setting of the session."""

    def damage(spark: SparkSession, row: DataFrame, path: str) -> None:
        spark.conf.set(name, value)
        try:
            row.write.format("delta").mode("overwrite").partitionBy("day").save(path)
        finally:
            spark.conf.unset(name)

    return damage


def appended_twice(**options: str) -> Damage:
    """The row of day 2, added by a writer that tries again."""

    def damage(_: SparkSession, row: DataFrame, path: str) -> None:
        for _try in range(2):
            row.write.format("delta").mode("append").options(**options).save(path)

    return damage


REPLACED = [(2, "c")]
DAMAGES: dict[str, tuple[Damage, list[tuple[int, str]]]] = {
    "partitionOverwriteMode": (option(partitionOverwriteMode="dynamic"), REPLACED),
    "partitionOverwriteMode as a setting": (setting("spark.sql.sources.partitionOverwriteMode", "DYNAMIC"), REPLACED),
    "replaceUsing": (option(replaceUsing="day"), REPLACED),
    "replaceOn": (option(replaceOn="day = 2"), REPLACED),
    "txnAppId": (appended_twice(txnAppId="job", txnVersion="1"), [*BEFORE, (2, "c"), (2, "c")]),
}


@pytest.fixture
def row(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(2, "c")], "day int, name string")


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> str:
    spark.createDataFrame(BEFORE, "day int, name string").write.format("delta").partitionBy("day").save(str(tmp_path / "table"))
    return str(tmp_path / "table")


def held(spark: SparkSession, path: str) -> list[tuple[int, str]]:
    return sorted(tuple(one) for one in spark.read.format("delta").load(path).select("day", "name").collect())


@pytest.mark.parametrize("name", DAMAGES)
def test_it_is_refused_and_nothing_is_written(spark, row, table: str, name: str):
    damage, _ = DAMAGES[name]
    with pytest.raises(
        UsageError, match=rf"{name.split()[0]} .*: Sail ignores this and would replace the whole table, or write twice; use"
    ):
        damage(spark, row, table)
    assert held(spark, table) == BEFORE


@pytest.mark.parametrize("name", DAMAGES)
def test_it_would_have_been_damage(spark, table: str, name: str, monkeypatch):
    """Once one of these fails, Sail has learned it, and the guard may let it pass."""
    monkeypatch.setattr("flowlog_udfs.sail_guard._look", lambda request: None)
    damage, after = DAMAGES[name]
    damage(spark, spark.createDataFrame([(2, "c")], "day int, name string"), table)
    assert held(spark, table) == after


@pytest.mark.parametrize(
    "statement",
    ["SET spark.sql.sources.partitionOverwriteMode = 'dynamic'", "INSERT INTO t WITH ('txnAppId' = 'job') VALUES (2, 'c')"],
)
def test_it_is_refused_in_sql(spark, statement: str):
    with pytest.raises(UsageError, match="Sail ignores this"):
        spark.sql(statement).collect()


def test_what_is_right_passes(spark, row, table: str):
    spark.conf.set("spark.sql.sources.partitionOverwriteMode", "static")
    row.write.format("delta").mode("overwrite").option("replaceWhere", "day = 2").save(table)
    assert held(spark, table) == [(1, "a"), (2, "c")]


def test_a_session_ends_with_its_context(spark, monkeypatch):
    """A second server beside the one of the tests: pyspark speaks to the one of the session, and the environment is left as it was."""
    before = dict(os.environ)
    with engines.sail_session() as other:
        assert other.range(3).count() == 3 and spark.range(2).count() == 2
        assert engines.slots(other) == engines.slots(spark)
    assert dict(os.environ) == before
    assert spark.range(2).count() == 2
