"""The command `flowlog` as a person and as a program meet it; what it starts Spark for is tested with Spark."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from flowlog_udfs.command import COMMANDS, main, parser
from flowlog_udfs.command.output import Output, print_table
from flowlog_udfs.ledger import RUNS, enter
from flowlog_udfs.tables import Warehouse

DAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 11, 6, tzinfo=timezone.utc)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A warehouse with two versions of a day's report in its ledger."""
    folder = tmp_path / "tables"
    opened = Warehouse.open(str(folder))
    for digest in ("aa11", "bb22"):
        enter(opened, DAY, dict.fromkeys(RUNS.names) | {"digest": digest}, NOW)
    return folder


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_ends_with_an_example_that_the_grammar_takes(name: str, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith(COMMANDS[name].EXAMPLE)
    words = shlex.split(COMMANDS[name].EXAMPLE.removeprefix('eval "$(').removesuffix(')"'))
    assert words[:2] == ["flowlog", name]
    assert parser().parse_args(words[1:]).command == name


@pytest.mark.parametrize(
    "words, message",
    [
        (["fly"], "argument COMMAND: invalid choice: 'fly'"),
        (["inspect", "logs"], "the following arguments are required: --day; see --help"),
        (["inspect", "logs", "--day", "10.3.2026"], "argument --day: '10.3.2026' is not a day; write YYYY-MM-DD; see --help"),
        (["inspect", "logs", "--day", "2026-03-10"], "logs: no such folder; give the folder that holds AWSLogs/"),
        (
            ["run", "--source", "logs", "--warehouse", "tables", "--day", "2026-03-10"],
            "logs: no such folder; give the folder that holds AWSLogs/",
        ),
        (["inspect", "ftp://host", "--day", "2026-03-10"], "ftp://host: unknown kind of storage ftp://"),
        (["formats", "${vpc-id"], "log format: '${vpc-id' is not a field"),
        (["formats", "hello world"], "'hello world' is neither a format nor a header line"),
        (["run", "--source", "logs", "--warehouse", "tables"], "give --day, or --from and --to; see --help"),
        (
            ["run", "--source", "logs", "--warehouse", "tables", "--day", "2026-03-10", "--policy", "none"],
            "argument --policy: none is not a",
        ),
        (["ddl", "--warehouse", "tables", "--engine", "duckdb", "--table", "flows"], "table 'flows': must be one of objects, records,"),
        (["completion", "basic"], "argument shell: invalid choice: 'basic'"),
    ],
)
def test_wrong_use_is_status_1_and_one_line(words: list[str], message: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"flowlog: {message}") and printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_words_it_helps(capsys):
    assert main([]) == 1
    assert "usage: flowlog" in capsys.readouterr().err


def test_a_bad_policy_is_told_before_anything_is_started(tmp_path, monkeypatch, capsys):
    policy = tmp_path / "policy.toml"
    policy.write_text('[[segment]]\nname = "cardholder"\ncidrs = ["10.0.0.0/33"]\n')
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    day = ["--source", str(tmp_path), "--warehouse", str(tmp_path / "tables"), "--day", "2026-03-10"]
    assert main(["run", *day, "--policy", str(policy)]) == 1
    assert f"{policy}: [[segment]] 1 cidrs = '10.0.0.0/33'" in capsys.readouterr().err
    policy.write_text("")
    assert main(["run", *day, "--policy", str(policy)]) == 3
    assert "Spark needs Java 17 or newer" in capsys.readouterr().err


def test_an_empty_day_is_status_2(tmp_path, capsys):
    assert main(["inspect", str(tmp_path), "--day", "2026-03-10"]) == 2
    assert capsys.readouterr().err == f"flowlog: {tmp_path}: no flow log object of 2026-03-10 (0 others lie there)\n"


def test_sample_then_inspect(tmp_path, capsys):
    assert main(["sample", "--output", str(tmp_path), "--day", "2026-03-10", "--connections", "300", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["output"] == str(tmp_path) and made["records"] > 300
    assert main(["inspect", str(tmp_path), "--day", "2026-03-10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["objects"] <= made["objects"]
    first = found["flow_logs"][0]
    assert first["first_published"].startswith("2026-03-10T") and len(first["hours"]) == 24
    assert main(["inspect", str(tmp_path), "--day", "2026-03-10"]) == 0
    shown = capsys.readouterr().out
    assert all(log["flow_log_id"] in shown for log in found["flow_logs"])
    assert f"{found['objects']:,} objects" in shown


def test_formats_explains_fields_results_and_rules(capsys):
    assert main(["formats", "${version} ${srcaddr} ${new-field}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in told["fields"]] == [2, 2, "unknown"]
    assert {"result": "who talked to whom", "answer": "no"}.items() <= told["feeds"][0].items()
    assert "cleartext" in told["rules_not_assessed"]
    assert main(["formats", "--vpc", "vpc-1"]) == 0
    shown = capsys.readouterr().out
    assert "next-hop-vpc-id" in shown and "--resource-ids vpc-1" in shown and "rules that no such" not in shown


def test_signing_off_the_latest_version_and_an_older_one(warehouse: Path, capsys):
    words = ["sign-off", "--warehouse", str(warehouse), "--day", "2026-03-10", "--reviewer", "A. Auditor", "--json"]
    version = warehouse / "reports" / "day=2026-03-10" / "bb22"
    version.mkdir(parents=True)
    (version / "report.json").write_text(json.dumps({"findings": [{"finding_id": name} for name in ("4f1c", "9d2e")]}))
    assert main([*words, "--decision", "accepted", "--disposition", "4f1c=see NET-18", "--disposition", "9d2e=a=b"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["digest"], row["decision"], row["dispositions"]) == ("bb22", "accepted", {"4f1c": "see NET-18", "9d2e": "a=b"})
    assert main([*words, "--decision", "rejected", "--digest", "aa"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == "aa11"
    assert main([*words, "--decision", "accepted", "--digest", "zz"]) == 1
    assert main([*words, "--decision", "accepted", "--disposition", "silent"]) == 1
    assert "'silent': write FINDING_ID=TEXT" in capsys.readouterr().err
    assert main([*words, "--decision", "accepted", "--disposition", "0000=known"]) == 1
    assert "disposition '0000': version bb22 of 2026-03-10 has no such finding" in capsys.readouterr().err
    words[words.index("2026-03-10")] = "2026-03-11"
    assert main([*words, "--decision", "accepted"]) == 2


def test_showing_a_report_that_is_not_there_is_status_2(warehouse: Path, capsys):
    assert main(["report", "--warehouse", str(warehouse), "--day", "2026-03-10", "--show"]) == 2
    assert capsys.readouterr().err == "flowlog: 2026-03-10: there is no report; run report_compliance first\n"


def test_ddl_names_the_tables_that_are_there(warehouse: Path, capsys):
    assert main(["ddl", "--warehouse", str(warehouse), "--engine", "athena"]) == 0
    shown = capsys.readouterr().out
    assert f"LOCATION '{warehouse}/runs/'" in shown and "connections" not in shown
    assert main(["ddl", "--warehouse", str(warehouse / "none"), "--engine", "athena", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["statements"]) > 15


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(shell: str, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("sign-off", "--fail-on", "critical"))
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_values_of_logs_are_no_markup_and_ids_stay_whole(capsys):
    console = Output(as_json=False).console
    long = "eni-" + "0123456789abcdef" * 12
    print_table(console, ("name", "count", "text"), [("[red]x[/red]", 1234567, "words " * 40), (long, 5, ":smile:")], wrapped=("text",))
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown and "1,234,567" in shown and long in shown and ":smile:" in shown


def test_help_is_quick_enough_to_import_no_engine():
    code = (
        "import sys; from flowlog_udfs.command import parser; parser(); assert 'pyspark' not in sys.modules and 'boto3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
