"""Every example record that AWS prints, the announcement's two lines, and a public trace: read as AWS's tables say.

A case is a folder of `tests/golden/records`: `object.log` as delivered, `expect.json` the columns of each record that are not NULL.
"""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.unit.reading import DAY, read

CASES = sorted((Path(__file__).parents[1] / "golden" / "records").iterdir())
ADDED = ("start_time", "end_time", "flow_log_id", "object_key")


def day_of(expected):
    starts = [record["start"] for record in expected if "start" in record]
    return datetime.fromtimestamp(starts[0], timezone.utc).date() if starts else DAY


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_example(case, tmp_path):
    expected = json.loads((case / "expect.json").read_text())
    reading = read((case / "object.log").read_bytes(), day=day_of(expected), folder=tmp_path)
    found = [{name: value for name, value in record.items() if value is not None and name not in ADDED} for record in reading.records]
    assert found == expected
    assert (reading.row.lines, reading.row.headers, reading.row.records) == (len(expected) + 1, 1, len(expected))
    times = [(record["start_time"], record["end_time"]) for record in reading.records if record["start"]]
    assert times == [
        tuple(datetime.fromtimestamp(record[name], timezone.utc) for name in ("start", "end")) for record in expected if "start" in record
    ]
