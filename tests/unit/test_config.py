"""flowlog.toml: defaults, and messages that name file, key, value and remedy."""

import pytest

from flowlog_udfs.config import Config, load_config
from flowlog_udfs.errors import UsageError


def write(tmp_path, text):
    path = tmp_path / "flowlog.toml"
    path.write_text(text)
    return str(path)


def test_without_a_file_all_defaults():
    assert load_config(None) == Config()


def test_values_are_taken(tmp_path):
    text = '[ingest]\nlate_hours = 5\n[formats]\n"fl-1" = "${version} ${srcaddr}"\n'
    text += '[networks]\nlinks = [["vpc-1", "vpc-2"]]\n[attribution]\nidle_seconds = 600\n'
    found = load_config(write(tmp_path, text))
    assert found.ingest.late_hours == 5
    assert found.networks.links == (("vpc-1", "vpc-2"),)
    assert (found.attribution.idle_seconds, found.attribution.udp_idle_seconds) == (600, 180)
    assert found.formats["fl-1"].names == ("version", "srcaddr")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ingest]\nlate_hour = 2", "unknown key of [ingest] 'late_hour'; known are"),
        ("[ingests]\n", "unknown section 'ingests'; known are"),
        ("[ingest]\nlate_hours = 25", "[ingest] late_hours = 25: must be between 0 and 24"),
        ("[ingest]\nlate_hours = 'two'", "[ingest] late_hours = 'two': must be a int"),
        ("[ingest]\nlate_hours = true", "[ingest] late_hours = True: must be a int"),
        ("[ingest]\nmax_failed_share = -1", "[ingest] max_failed_share = -1: must be between 0 and 1"),
        ("[ingest]\ncloudwatch_format = 'version'", "'version' is not a field; write ${field-id} tokens"),
        ("[formats]\nfl-1 = 3", "[formats] fl-1 = 3: must be a str"),
        ("ingest = 3", "[ingest] = 3: must be a section"),
        ("[attribution]\nidle_seconds = 0", "[attribution] idle_seconds = 0: must be between 1 and 86400"),
        ("[attribution]\nidle = 1", "unknown key of [attribution] 'idle'"),
        ("[attribution]\nservices = 3", "[attribution] services = 3: must be a str"),
        ("[networks]\nlinks = [['vpc-1']]", "[networks] links holds ['vpc-1']: must be a list of two or more VPC ids"),
        ("[networks]\nlink = []", "unknown key of [networks] 'link'"),
        ("[ingest", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        load_config(str(tmp_path / "none.toml"))
