"""Each notebook from its first cell to its last, on sample days of which the tables say what it must show."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import nbformat
import pytest
from deltalake import DeltaTable
from nbclient import NotebookClient

pytestmark = pytest.mark.spark_only(why="notebooks start a Spark of their own")

FOLDER = Path(__file__).parents[2] / "notebooks"
DAY = date(2026, 3, 10)
BEFORE = (1, 2, 4)
"""The days before, in days; one of them was never run."""
CELL_SECONDS = 300


@dataclass(frozen=True)
class Sample:
    """A few days of logs and their tables."""

    logs: Path
    warehouse: Path

    def ask(self, table: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query over the view `t`, which is a table of the warehouse."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.read_parquet(DeltaTable(self.warehouse / table).file_uris(), hive_partitioning=True).create_view("t")
            return connection.execute(query, values).fetchall()

    def report(self) -> dict[str, Any]:
        return json.loads((self.warehouse / "reports" / f"day={DAY}" / "report.json").read_text())


@dataclass(frozen=True)
class Executed:
    """A notebook with its outputs, and what expressions were worth before its last cell."""

    cells: Sequence[Any]
    found: dict[str, Any]

    def text(self, start: str) -> str:
        """The text that the code cell with this in its source shows as its last value."""
        [cell] = [cell for cell in self.cells if cell.cell_type == "code" and start in cell.source]
        return next(
            output.data["text/plain"] for output in reversed(cell.outputs) if output.output_type in ("execute_result", "display_data")
        )

    def complaints(self) -> list[str]:
        streams = (output for cell in self.cells for output in cell.get("outputs", ()) if output.output_type == "stream")
        # What every Spark session says when it starts.
        known = ("incubator modules", "Setting default log level", "To adjust logging level")
        lines = (line for output in streams for line in output.text.splitlines())
        return [line for line in lines if line.strip() and not any(word in line for word in known)]

    def plots(self) -> list[bool]:
        """For each cell tagged `plot`, whether it shows a picture."""
        tagged = [cell for cell in self.cells if "plot" in cell.metadata.get("tags", ())]
        return [any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in tagged]


Execute = Callable[..., Executed]


@pytest.fixture(scope="module")
def sample(days: Any, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    own = days.copied(tmp_path_factory.mktemp("notebooks"))
    return Sample(own.logs, own.tables)


@pytest.fixture(scope="module")
def execute(sample: Sample) -> Execute:
    """`execute(name, expressions, before, **environment)` runs a notebook in a kernel of its own; `before` is how the cell begins ahead of
    which the expressions are asked."""

    def run(name: str, expressions: dict[str, str], before: str | None = None, **environment: str) -> Executed:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        values = ", ".join(f"{key!r}: {expression}" for key, expression in expressions.items())
        question = nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({{{values}}}, default=str))")
        place = next((i for i, cell in enumerate(notebook.cells) if before and cell.source.startswith(before)), len(notebook.cells))
        notebook.cells.insert(place, question)
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_", "FLOWLOG_"))}
        own = {"FLOWLOG_LOGS": str(sample.logs), "FLOWLOG_WAREHOUSE": str(sample.warehouse), "FLOWLOG_DAY": str(DAY)}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})
        client.execute(env=variables | own | environment)
        del notebook.cells[place]
        return Executed(notebook.cells, json.loads(question.outputs[0].text))

    return run


@pytest.fixture(scope="module")
def first_look(execute: Execute) -> Executed:
    return execute(
        "01_first_look",
        {
            "flow_logs": "flow_logs[['flow_log_id', 'records', 'objects']].values.tolist()",
            "statuses": "statuses.values.tolist()",
            "flags": "flags[['tcp_flags', 'records', 'bytes']].values.tolist()",
            "filled": "filled['tcp_flags'].to_dict()",
            "directions": "directions.values.tolist()",
            "per_minute": "per_minute.sum().to_dict()",
            "by_interface": "by_interface.values.tolist()",
            "by_packet": "by_packet.values.tolist()",
            "observed": "[int(observed['bytes'].sum()), int(several['five_tuples'].sum())]",
        },
        before="spark.stop",
    )


def test_first_look_shows_pictures_and_nothing_else_is_said(first_look: Executed):
    assert first_look.plots() == [True] * 4
    assert first_look.complaints() == []


def test_first_look_agrees_with_the_records(first_look: Executed, sample: Sample):
    found = first_look.found
    [(records,)] = sample.ask("records", "SELECT count(*) FROM t WHERE day = ?", DAY)
    assert f"{records:,} records on {DAY}" in first_look.text("read_flow_logs(")
    by_flow_log = "SELECT flow_log_id, count(*), count(DISTINCT object_key) FROM t WHERE day = ? GROUP BY ALL"
    assert {tuple(row) for row in found["flow_logs"]} == set(sample.ask("records", by_flow_log, DAY))
    status = "SELECT log_status, coalesce(action, ''), count(*), coalesce(sum(packets), 0), coalesce(sum(bytes), 0) FROM t WHERE day = ?"
    assert {tuple(row) for row in found["statuses"]} == set(sample.ask("records", f"{status} GROUP BY ALL", DAY))
    talkers = "SELECT {0}, sum(bytes)::BIGINT FROM t WHERE day = ? AND action = 'ACCEPT' GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 12"
    for name, address in (("by_interface", "srcaddr"), ("by_packet", "coalesce(pkt_srcaddr, srcaddr)")):
        assert [tuple(row) for row in found[name]] == sample.ask("records", talkers.format(address), DAY)
    assert found["by_interface"] != found["by_packet"]


def test_first_look_reads_flags_rightly(first_look: Executed, sample: Sample):
    of_tcp = "FROM t WHERE day = ? AND protocol = 6 AND action IS NOT NULL"
    by_flags = f"SELECT coalesce(tcp_flags, -1), count(*), sum(bytes) {of_tcp} GROUP BY ALL"
    assert {tuple(row) for row in first_look.found["flags"]} == set(sample.ask("records", by_flags, DAY))
    table = {line.split()[1]: line for line in first_look.text("closes(values)").splitlines() if line[:1].isdigit()}
    assert "FIN SYN" in table["3"] and "FIN SYN ACK" in table["19"] and "not in the format" in table["-1"]
    assert sum(row[1] for row in first_look.found["directions"]) == sum(row[1] for row in first_look.found["flags"])
    without = {
        flow_log for (flow_log,) in sample.ask("records", f"SELECT flow_log_id {of_tcp} GROUP BY ALL HAVING count(tcp_flags) = 0", DAY)
    }
    assert {name for name, share in first_look.found["filled"].items() if share == 0} == without


def test_first_look_loses_no_byte(first_look: Executed, sample: Sample):
    by_action = "SELECT action, sum(bytes)::BIGINT FROM t WHERE day = ? AND action IS NOT NULL GROUP BY ALL"
    counted = dict(sample.ask("records", by_action, DAY))
    assert first_look.found["per_minute"] == counted
    accepted, several = first_look.found["observed"]
    assert accepted == counted["ACCEPT"]
    assert several > 0


@pytest.fixture(scope="module")
def connections(execute: Execute) -> Executed:
    return execute(
        "02_connections_and_nat",
        {
            "bases": "bases[['basis', 'connections', 'bytes']].values.tolist()",
            "states": "by_state.stack().reset_index().values.tolist()",
            "reached": "reached[['connections', 'established']].sum().tolist()",
            "services": "sorted(set(reached['service']))",
            "sizes": "len(sizes)",
            "mapped": "mapped[['nat_kind', 'pairs']].groupby('nat_kind').sum()['pairs'].to_dict()",
            "reported": "[reported_address, reported_port, private, example.remote_addr, example.inside_addr]",
            "answer": "answer[['inside_addr', 'remote_addr', 'confidence']].values.tolist()",
            "inside": "inside.astype(str).to_dict('records')",
            "alike": "alike[['rows', 'confidence']].values.tolist()",
        },
        before="spark.stop",
    )


def test_connections_show_pictures_and_nothing_else_is_said(connections: Executed):
    assert connections.plots() == [True] * 5
    assert connections.complaints() == []


def test_connections_agree_with_the_tables(connections: Executed, sample: Sample):
    found = connections.found
    by_basis = "SELECT basis, count(*), sum(bytes_sent + bytes_received)::BIGINT FROM t WHERE day = ? GROUP BY ALL"
    assert {tuple(row) for row in found["bases"]} == set(sample.ask("connections", by_basis, DAY))
    total = sum(row[1] for row in found["bases"])
    [(pairs,)] = sample.ask("nat_mappings", "SELECT count(*) FROM t WHERE day = ?", DAY)
    assert f"{total:,} connections, {pairs:,} NAT mappings on {DAY}" in connections.text("NAT mappings on {DAY}")
    known, established = sample.ask(
        "connections", "SELECT count(*), count_if(state = 'established') FROM t WHERE day = ? AND basis <> 'none'", DAY
    )[0]
    assert found["reached"] == [known, established]
    assert {"https (tcp/443)", "dns (udp/53)"} <= set(found["services"])
    assert found["mapped"] == dict(sample.ask("nat_mappings", "SELECT nat_kind, count(*) FROM t WHERE day = ? GROUP BY ALL", DAY))
    by_state = "SELECT state, verdict_by, count(*) FROM t WHERE day = ? GROUP BY ALL"
    assert {tuple(row) for row in found["states"] if row[2]} == set(sample.ask("connections", by_state, DAY))
    assert connections.text('same["connections"].tolist() ==') == "True"


def test_the_abuse_report_is_answered_as_the_truth_says(connections: Executed, sample: Sample):
    found = connections.found
    public, port, private, remote, inside = found["reported"]
    inventory = json.loads((sample.logs / "inventory.json").read_text())
    addresses = [one for gateway in inventory["NatGateways"] for one in gateway["NatGatewayAddresses"]]
    assert {"PublicIp": public, "PrivateIp": private}.items() <= next(one for one in addresses if one["PrivateIp"] == private).items()
    assert public != private
    assert [inside, remote, 0.95] in found["answer"]
    truth = str(sample.logs / "truth" / f"day={DAY}" / "nat.parquet")
    behind = duckdb.execute(
        "SELECT DISTINCT inside_addr FROM read_parquet(?) WHERE nat_port = ? AND remote_addr = ?", (truth, port, remote)
    )
    assert (inside,) in behind.fetchall()
    [row] = [row for row in found["inside"] if row["initiator_addr"] == inside]
    held = {one["PrivateIpAddress"]: one for one in inventory["NetworkInterfaces"]}
    assert row["initiator_instance_id"] == held[inside]["Attachment"]["InstanceId"]
    assert found["alike"] and all(confidence <= 1 / rows for rows, confidence in found["alike"])


COMPLIANCE = {
    "open": "[verdict['open'][name] for name in ('critical', 'high', 'medium', 'low', 'info')]",
    "per_rule": "per_rule[['severity', 'rule', 'status', 'findings']].values.tolist()",
    "chosen": "chosen['finding_id']",
    "evidence": "evidence[['object_key', 'sha256', 'bytes']].values.tolist()",
    "judged": "judged['outcome'].value_counts().to_dict()",
    "hours": "[int(hours.to_numpy().sum()), int((hours == 0).to_numpy().sum()), hours.size]",
    "trend": "{str(day.date()): row.to_dict() for day, row in trend.iterrows()}",
    "agrees": "(raw == parts.sum()).tolist()",
    "page": "page",
    "signed": "signed[['digest', 'reviewer', 'decision']].values.tolist()",
}


@pytest.fixture(scope="module")
def unsigned(execute: Execute, sample: Sample) -> Executed:
    """The third notebook as a reader runs it; nothing may be written."""
    before = {path: path.stat().st_mtime_ns for path in sample.warehouse.rglob("*") if path.is_file()}
    done = execute("03_a_compliance_day", COMPLIANCE)
    assert {path: path.stat().st_mtime_ns for path in sample.warehouse.rglob("*") if path.is_file()} == before
    return done


def test_a_compliance_day_shows_pictures_and_nothing_else_is_said(unsigned: Executed):
    assert unsigned.plots() == [True] * 6
    assert unsigned.complaints() == []


def test_a_compliance_day_agrees_with_tables_and_report(unsigned: Executed, sample: Sample):
    found, report = unsigned.found, sample.report()
    assert found["open"] == [report["verdict"]["open"][name] for name in ("critical", "high", "medium", "low", "info")]
    assert sum(found["open"]) > 0
    by_rule = "SELECT severity, rule, status, count(*) FROM t WHERE day = ? GROUP BY ALL"
    assert {tuple(row) for row in found["per_rule"]} == set(sample.ask("findings", by_rule, DAY))
    assert found["judged"] == dict(sample.ask("assessments", "SELECT outcome, count(*) FROM t WHERE day = ? GROUP BY ALL", DAY))
    [(records,)] = sample.ask("records", "SELECT count(*) FROM t WHERE day = ?", DAY)
    [(empty, hours)] = sample.ask("coverage", "SELECT count_if(records = 0), count(*) FROM t WHERE day = ?", DAY)
    assert found["hours"] == [records, empty, hours]
    assert found["agrees"] == [True] * 4
    assert found["page"] == (sample.warehouse / "reports" / f"day={DAY}" / "report.html").read_text(encoding="utf-8")
    assert found["signed"] == []


def test_a_compliance_day_has_the_days_before_beside_it(unsigned: Executed, sample: Sample):
    trend = unsigned.found["trend"]
    assert sorted(trend) == [str(DAY - timedelta(days=number)) for number in reversed((0, *BEFORE))]
    for day, connections in sample.ask("connections", "SELECT day::VARCHAR, count(*) FROM t GROUP BY ALL"):
        assert trend[day]["connections"] == connections
    measures = {one["name"]: one for one in sample.report()["changes"]["measures"]}
    for name in ("records", "connections", "bytes"):
        assert trend[str(DAY)][name] == measures[name]["today"]
        assert trend[str(DAY - timedelta(days=1))][name] == measures[name]["days"][0]


def test_evidence_leads_to_the_objects_as_they_are_stored(unsigned: Executed, sample: Sample):
    evidence = unsigned.found["evidence"]
    assert evidence
    for key, digest, _ in evidence:
        assert hashlib.sha256((sample.logs / key).read_bytes()).hexdigest() == digest
    [finding] = [one for one in sample.report()["findings"] if one["finding_id"] == unsigned.found["chosen"]]
    # What the examples sent is among what the records show, at one interface or several.
    assert {one["bytes_sent"] for one in finding["examples"]} & {row[2] for row in evidence}


@pytest.mark.usefixtures("unsigned")
def test_a_reviewer_signs_the_version_that_was_read(execute: Execute, sample: Sample):
    signed = execute("03_a_compliance_day", COMPLIANCE, FLOWLOG_REVIEWER="A. Auditor").found["signed"]
    digest = sample.report()["digest"]
    assert signed == [[digest, "A. Auditor", "accepted"]]
    assert sample.ask("signoffs", "SELECT digest, reviewer, decision FROM t WHERE day = ?", DAY) == [(digest, "A. Auditor", "accepted")]
