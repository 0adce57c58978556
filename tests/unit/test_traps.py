"""Every trap of the format that AWS documents or that deliveries have shown, each by name."""

import gzip
from datetime import date, datetime, timezone
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlog_udfs import blocks, objects
from flowlog_udfs import lines as parsing
from flowlog_udfs.fields import FIELDS, TGW_FIELDS
from flowlog_udfs.formats import DEFAULT_FORMAT, LogFormat
from flowlog_udfs.lines import MAX_LINE_BYTES
from flowlog_udfs.values import SEEN_ADDRESSES
from tests.unit.reading import ANNOUNCED, DAY, SSH_REPLY, SSH_REQUEST, lines, parquet, read

V2_LINE = "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1566328660 1566328672 ACCEPT OK"


@pytest.fixture
def reads(tmp_path):
    return partial(read, folder=tmp_path)


def with_field(line: str, name: str, value: str, log_format: LogFormat = ANNOUNCED) -> str:
    tokens = line.split(" ")
    tokens[log_format.names.index(name)] = value
    return " ".join(tokens)


def test_the_announcements_two_lines(reads):
    reading = reads(lines(SSH_REPLY, SSH_REQUEST))
    reply, request = reading.records
    assert (reply["srcaddr"], reply["srcport"], reply["dstaddr"], reply["dstport"]) == ("172.31.22.145", 22, "90.90.0.200", 62897)
    assert (reply["bytes"], reply["packets"], reply["tcp_flags"], reply["protocol"]) == (5225, 24, 18, 6)
    assert (request["bytes"], request["packets"], request["tcp_flags"]) == (4877, 29, 2)
    # Masked ids are text like any other.
    assert (reply["vpc_id"], reply["account_id"]) == ("vpc-exxxxxx2", "48xxxxxx93")
    assert reply["start_time"] == datetime(2019, 8, 20, 19, 17, 40, tzinfo=timezone.utc)
    assert reply["az_id"] is None and reply["extra_fields"] is None
    assert (reply["flow_log_id"], reply["object_key"]) == ("fl-1", "object")
    assert (reading.row.lines, reading.row.headers, reading.row.records, reading.row.bytes) == (3, 1, 2, 10102)
    assert reading.row.log_format == str(ANNOUNCED)


def test_gzip_and_plain_text_are_told_by_content(reads):
    assert reads(lines(SSH_REPLY), zipped=False).records == reads(lines(SSH_REPLY)).records


def test_alphabetical_order_of_fields(reads):
    shuffled = LogFormat(tuple(sorted(ANNOUNCED.names)))
    by_name = dict(zip(ANNOUNCED.names, SSH_REPLY.split(), strict=True))
    line = " ".join(by_name[name] for name in shuffled.names)
    assert reads(lines(line, header=shuffled)).records == reads(lines(SSH_REPLY)).records


def test_header_repeated_inside_a_file(reads):
    reading = reads(lines(SSH_REPLY, ANNOUNCED.header(), SSH_REQUEST))
    assert (reading.row.headers, reading.row.records, reading.row.rejects) == (2, 2, 0)


def test_another_header_inside_a_file_rules_the_lines_below_it(reads):
    reading = reads(lines(SSH_REPLY, DEFAULT_FORMAT.header(), V2_LINE))
    assert (reading.row.headers, reading.row.records) == (2, 2)
    assert reading.records[1]["interface_id"] == "eni-1235b8ca123456789"


def test_a_header_that_disagrees_with_the_plan_wins(reads):
    reading = reads(lines(V2_LINE, header=DEFAULT_FORMAT), plan=ANNOUNCED)
    assert reading.records[0]["srcaddr"] == "172.31.16.139"


def test_no_header_where_the_flow_logs_format_is_known(reads):
    reading = reads(lines(SSH_REPLY, header=None), plan=ANNOUNCED)
    assert (reading.row.headers, reading.row.records) == (0, 1)


def test_no_final_newline(reads):
    assert reads(lines(SSH_REPLY, SSH_REQUEST, end=False)).row.records == 2


def test_double_spaces(reads):
    # AWS's own example has two spaces in one line.
    assert reads(lines(SSH_REPLY.replace(" 62897 ", "  62897 "))).records == reads(lines(SSH_REPLY)).records


def test_a_missing_token_is_not_made_up_for_by_a_double_space(reads):
    assert reads(lines(SSH_REPLY.replace(" 62897 ", "  "), SSH_REQUEST)).rejects == [(2, SSH_REPLY.replace(" 62897 ", "  "), "token_count")]


@pytest.mark.parametrize("change", ["{} ", " {}", "{}\t", "{}\r"])
def test_white_space_around_a_line(reads, change):
    assert reads(lines(change.format(SSH_REPLY))).records == reads(lines(SSH_REPLY)).records


def test_windows_line_ends(reads):
    reading = reads(lines(SSH_REPLY, SSH_REQUEST, newline="\r\n"))
    assert (reading.row.lines, reading.row.headers, reading.row.records) == (3, 1, 2)


def test_byte_order_mark(reads):
    assert reads(b"\xef\xbb\xbf" + lines(SSH_REPLY)).row.records == 1


def test_blank_lines_are_counted(reads):
    reading = reads(lines(SSH_REPLY, "", "   ", SSH_REQUEST))
    assert (reading.row.lines, reading.row.blank, reading.row.records) == (5, 2, 2)


def test_cloudwatch_export_in_the_default_format(reads):
    reading = reads(lines(f"2019-08-20T19:17:40.000Z {V2_LINE}", header=None))
    assert (reading.row.records, reading.records[0]["dstport"]) == (1, 22)


def test_cloudwatch_export_in_a_configured_format(reads):
    reading = reads(lines(f"2019-08-20T19:17:40.000Z {SSH_REPLY}", f"yesterday {SSH_REPLY}", header=None), cloudwatch=ANNOUNCED)
    assert (reading.row.records, [reason for *_, reason in reading.rejects]) == (1, ["bad_value"])


def test_milliseconds_instead_of_seconds(reads):
    late = SSH_REPLY.replace("1566328660", "1566328660123").replace("1566328672", "1566328672999")
    record = reads(lines(late)).records[0]
    assert (record["start"], record["end"]) == (1566328660, 1566328672)


@pytest.mark.parametrize("line", [SSH_REPLY.rsplit(" ", 1)[0], SSH_REPLY + " OK", "garbage"])
def test_too_few_or_too_many_tokens(reads, line):
    assert reads(lines(SSH_REQUEST, line)).rejects == [(3, line, "token_count")]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("protocol", "six", "bad_number"),
        ("protocol", "256", "bad_number"),
        ("protocol", "6.0", "bad_number"),
        ("srcport", "70000", "bad_number"),
        ("srcport", "-5", "bad_number"),
        ("srcport", "+5", "bad_number"),
        ("srcport", "0x1f", "bad_number"),
        ("srcport", "0X1F", "bad_number"),
        ("version", "0x3", "bad_number"),
        ("tcp-flags", "256", "bad_number"),
        ("bytes", str(2**63), "bad_number"),
        ("bytes", "99999999999999999999999", "bad_number"),
        ("bytes", "-0", "bad_number"),
        ("start", "999999999999999", "bad_number"),
        ("srcaddr", "999.1.1.1", "bad_address"),
        ("srcaddr", "10.0.0", "bad_address"),
        ("srcaddr", "010.0.0.1", "bad_address"),
        ("pkt-dstaddr", "fe80::1%eth0", "bad_address"),
        ("dstaddr", "::gggg", "bad_address"),
        ("action", "MAYBE", "bad_value"),
        ("action", "accept", "bad_value"),
        ("log-status", "FINE", "bad_value"),
        ("type", "IPv5", "bad_value"),
    ],
)
def test_a_wrong_value_is_a_reject_not_a_null(reads, name, value, reason):
    wrong = with_field(SSH_REPLY, name, value)
    reading = reads(lines(SSH_REQUEST, wrong, SSH_REPLY))
    assert reading.rejects == [(3, wrong, reason)]
    assert [record["tcp_flags"] for record in reading.records] == [2, 18]


def test_the_first_bad_field_gives_the_reason(reads):
    wrong = with_field(with_field(SSH_REPLY, "action", "MAYBE"), "srcaddr", "nowhere")
    assert [reason for *_, reason in reads(lines(wrong, SSH_REPLY)).rejects] == ["bad_address"]


def test_bytes_beyond_two_gigabytes(reads):
    assert reads(lines(with_field(SSH_REPLY, "bytes", str(2**63 - 1)))).records[0]["bytes"] == 2**63 - 1


def test_bytes_missing_on_a_block_public_access_row(reads):
    log_format = LogFormat((*ANNOUNCED.names, "reject-reason"))
    line = with_field(with_field(SSH_REPLY, "bytes", "-"), "action", "REJECT") + " BPA"
    record = reads(lines(line, header=log_format)).records[0]
    assert (record["bytes"], record["reject_reason"], record["packets"]) == (None, "BPA", 24)


@pytest.mark.parametrize("status", ["NODATA", "SKIPDATA"])
def test_rows_without_traffic_are_records(reads, status):
    line = f"2 123456789010 eni-1235b8ca123456789 - - - - - - - 1566328660 1566328672 - {status}"
    record = reads(lines(line, header=DEFAULT_FORMAT)).records[0]
    assert (record["log_status"], record["srcaddr"], record["bytes"], record["action"]) == (status, None, None, None)


def test_account_unknown_and_leading_zeros_are_text(reads):
    both = (with_field(SSH_REPLY, "account-id", value) for value in ("unknown", "001234567890"))
    assert [record["account_id"] for record in reads(lines(*both)).records] == ["unknown", "001234567890"]


def test_ipv6(reads):
    line = (
        "2 123456789010 eni-1235b8ca123456789 2001:db8:1234:a100:8d6e:3477:df66:f105 2001:db8:1234:a102:3304:8879:34cf:4071 "
        "34892 22 6 54 8855 1566328660 1566328672 ACCEPT OK"
    )
    assert reads(lines(line, header=DEFAULT_FORMAT)).records[0]["dstaddr"] == "2001:db8:1234:a102:3304:8879:34cf:4071"


def test_fields_newer_than_this_release_are_kept_by_name(reads):
    log_format = LogFormat((*ANNOUNCED.names, "quantum-state", "mood"))
    reading = reads(lines(SSH_REPLY + " entangled -", SSH_REQUEST + " - happy", header=log_format))
    assert [dict(record["extra_fields"]) for record in reading.records] == [{"quantum-state": "entangled"}, {"mood": "happy"}]


def test_all_fields_of_this_release(reads):
    log_format = LogFormat(tuple(field.name for field in FIELDS))
    values = {"STRING": "x", "INT": "7", "BIGINT": "1566328660"}
    words = {"action": "REJECT", "log-status": "OK", "type": "EFA", "flow-direction": "egress"}
    line = " ".join(words.get(f.name, "10.0.0.1" if "addr" in f.name else values[f.type]) for f in FIELDS)
    record = reads(lines(line, header=log_format)).records[0]
    assert all(record[field.column] is not None for field in FIELDS)


def test_transit_gateway_rows_are_not_lost(reads):
    log_format = LogFormat(tuple(field.name for field in TGW_FIELDS))
    numbers = {"start": "1566328660", "end": "1566328672", "srcaddr": "10.0.0.1", "dstaddr": "10.1.0.1", "log-status": "OK", "type": "IPv4"}
    line = " ".join(numbers.get(f.name, "ingress" if f.name == "flow-direction" else "5") for f in TGW_FIELDS)
    reading = reads(lines(line, header=log_format))
    assert (len(reading.tgw), len(reading.records), reading.row.records) == (1, 0, 1)
    assert (reading.tgw[0]["tgw_id"], reading.tgw[0]["packets_lost_blackhole"]) == ("5", 5)


def test_bad_encoding(reads):
    wrong = SSH_REPLY.encode().replace(b"48xxxxxx93", b"48\xff\xfexx93")
    reading = reads(lines(SSH_REQUEST) + wrong + b"\n")
    assert [(number, reason) for number, _, reason in reading.rejects] == [(3, "bad_encoding")]
    assert "\ufffd" in reading.rejects[0][1]


def test_control_characters_are_not_text(reads):
    assert [reason for *_, reason in reads(lines(SSH_REPLY.replace("vpc-", "vpc\0"))).rejects] == ["bad_encoding"]


def test_text_beyond_ascii_is(reads):
    assert reads(lines(SSH_REPLY.replace("i-0bfxxxxxxaf", "i-größe"))).records[0]["instance_id"] == "i-größe"


def test_a_line_too_long(reads):
    reading = reads(lines(SSH_REPLY, "y" * (MAX_LINE_BYTES + 1), SSH_REQUEST))
    assert [(number, len(line), reason) for number, line, reason in reading.rejects] == [(3, 1000, "too_long")]
    assert reading.row.records == 2


def test_a_huge_line_is_not_kept_in_memory(reads, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
    longest = 0
    real = parsing.parse_lines

    def spy(block, *arguments, **more):
        nonlocal longest
        longest = max(longest, len(block))
        return real(block, *arguments, **more)

    monkeypatch.setattr(objects, "parse_lines", spy)
    reading = reads(lines(SSH_REPLY) + b"y" * (8 << 20) + b"\n" + SSH_REQUEST.encode())
    assert [(number, reason) for number, _, reason in reading.rejects] == [(3, "too_long")]
    assert reading.row.records == 2 and longest < 1 << 19


def test_several_gzip_members(reads):
    content = gzip.compress(lines(SSH_REPLY)) + gzip.compress(lines(SSH_REQUEST, header=None))
    assert reads(content, zipped=False).row.records == 2


@pytest.mark.parametrize("cut", [15, 60, -1])
def test_truncated_gzip(reads, cut):
    assert "cut short" in reads(gzip.compress(lines(SSH_REPLY, SSH_REQUEST))[:cut], zipped=False).row.error


def test_damaged_gzip(reads):
    content = bytearray(gzip.compress(lines(*[SSH_REPLY, SSH_REQUEST] * 50)))
    content[len(content) // 2] ^= 0xFF
    assert reads(bytes(content), zipped=False).row.error.startswith("damaged")


def test_garbage_behind_the_gzip(reads):
    assert reads(gzip.compress(lines(SSH_REPLY)) + b"more", zipped=False).row.error.startswith("damaged")


def test_empty_object(reads):
    assert reads(b"", zipped=False).row.error.startswith("empty")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_gzip_of_nothing(reads, content):
    assert reads(content, plan=ANNOUNCED).row.error.startswith("not a flow log")


def test_header_alone_is_a_flow_log_without_traffic(reads):
    assert (reads(lines()).row.status, reads(lines()).row.headers) == ("read", 1)


@pytest.mark.parametrize("plan", [None, ANNOUNCED])
@pytest.mark.parametrize("content", [b"hello\nworld\n", b'{"Records": []}\n', b"a b c"])
def test_text_that_is_no_flow_log(reads, content, plan):
    assert reads(content, plan=plan).row.error.startswith("not a flow log")


def test_a_content_bomb_is_refused(reads):
    assert "max_object_bytes" in reads(lines(*[SSH_REPLY] * 2000), max_bytes=100_000).row.error


def test_rows_of_other_days_are_counted_by_date(reads):
    reading = reads(lines(SSH_REPLY, SSH_REPLY.replace("1566328660", "1566259100"), SSH_REPLY.replace("1566328660", "1566345601")))
    assert (reading.row.records, reading.row.other_day) == (1, 2)
    assert reading.row.other_days == {date(2019, 8, 19): 1, date(2019, 8, 21): 1}


def test_without_start_the_day_is_that_of_end(reads):
    log_format = LogFormat(("version", "srcaddr", "end"))
    reading = reads(lines("3 10.0.0.1 1566345599", "3 10.0.0.1 1566345600", header=log_format))
    assert (reading.row.records, reading.row.other_days) == (1, {date(2019, 8, 21): 1})


def test_without_times_the_day_is_that_of_the_key(reads):
    log_format = LogFormat(("version", "srcaddr"))
    content = lines("3 10.0.0.1", header=log_format)
    assert reads(content).row.records == 1
    assert reads(content, published=datetime(2019, 8, 21, 0, 5, tzinfo=timezone.utc)).row.other_days == {date(2019, 8, 21): 1}


def native_parquet(**changed):
    columns = {
        "version": pa.array([3, 3], pa.int32()),
        "interface_id": pa.array(["eni-1", "eni-1"]),
        "srcaddr": pa.array(["10.0.0.1", "-"]),
        "dstaddr": pa.array(["10.0.0.2", None], pa.string()),
        "protocol": pa.array([6, None], pa.int32()),
        "bytes": pa.array([2**40, None], pa.int64()),
        "start": pa.array([1566328660, 1566328660], pa.int64()),
        "end": pa.array([1566328672, 1566328672], pa.int64()),
        "traffic_path": pa.array([8, 0], pa.int32()),
        "log_status": pa.array(["OK", "NODATA"]),
    }
    return parquet(columns | changed)


def test_parquet(reads):
    reading = reads(native_parquet(), zipped=False)
    assert (reading.row.file_format, reading.row.lines, reading.row.headers, reading.row.records) == ("parquet", 2, 0, 2)
    traffic, nothing = reading.records
    assert (traffic["bytes"], traffic["traffic_path"], traffic["interface_id"]) == (2**40, 8, "eni-1")
    # Text says `-`, numbers are null, and no path may be 0.
    assert (nothing["srcaddr"], nothing["dstaddr"], nothing["protocol"], nothing["traffic_path"]) == (None, None, None, None)


def test_parquet_with_wider_integers_and_unknown_columns(reads):
    content = native_parquet(protocol=pa.array([6, None], pa.int64()), new_field=pa.array(["a", "-"]))
    records = reads(content, zipped=False).records
    assert [record["protocol"] for record in records] == [6, None]
    assert [dict(record["extra_fields"]) for record in records] == [{"new-field": "a"}, {}]


def test_parquet_rows_are_checked_too(reads):
    reading = reads(native_parquet(srcaddr=pa.array(["999.1.1.1", "10.0.0.9"])), zipped=False)
    assert [(number, reason) for number, _, reason in reading.rejects] == [(1, "bad_address")]
    assert reads(native_parquet(protocol=pa.array([-1, 6], pa.int32())), zipped=False).rejects[0][2] == "bad_number"


@pytest.mark.parametrize("keep", [4, 50, -1])
def test_parquet_cut_short(reads, keep):
    assert reads(native_parquet()[:keep], zipped=False).row.status == "failed"


def test_parquet_with_a_column_whose_name_is_no_text(reads):
    content = native_parquet().replace(b"traffic_path", b"traffic\xeepath")
    assert reads(content, zipped=False).row.error.startswith("damaged: 'utf-8' codec can't decode byte 0xee")


def test_parquet_that_is_no_flow_log(reads):
    assert reads(parquet({"colour": pa.array(["red"]), "size": pa.array([3])}), zipped=False).row.error.startswith("not a flow log")


def test_addresses_are_checked_when_more_were_seen_than_are_remembered(reads, monkeypatch):
    monkeypatch.setattr("flowlog_udfs.values.SEEN_ADDRESSES", 2)
    assert SEEN_ADDRESSES > 2
    many = [with_field(SSH_REPLY, "srcaddr", f"10.0.0.{n}") for n in range(9)]
    reading = reads(lines(*many, with_field(SSH_REPLY, "srcaddr", "10.0.0.256")))
    assert (reading.row.records, len(reading.rejects)) == (9, 1)


tokens = st.sampled_from(
    [
        *("-", "0", "6", "17", "six", "00022", "65536", "-1", "0x10", "0X1F", "9" * 19, "1" * 20, "1566328660", "1566328660000"),
        *("10.0.0.1", "::1", "1.2.3", "ACCEPT", "OK", "NODATA", "eni-1", "version", "é", "", " ", "\t"),
    ]
)
mutated = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 20), tokens).map(lambda change: with_field(SSH_REPLY, ANNOUNCED.names[change[0]], change[1])),
        st.just(SSH_REQUEST),
        st.just(ANNOUNCED.header()),
        st.just(""),
        st.text(alphabet=st.characters(exclude_characters="\n\r"), max_size=30),
    ),
    max_size=12,
)


def slowly(text_lines: list[str]) -> tuple[list[dict], list[tuple[int, str]], int, int]:
    """The rules of one format, one line at a time: (records, rejects, blank lines, headers)."""
    import ipaddress

    records, rejects, blank, headers = [], [], 0, 0
    by_name = {field.name: field for field in FIELDS}
    for number, line in enumerate(text_lines, start=2):
        parts = line.encode().split()
        if not parts:
            blank += 1
        elif any(ord(character) < 32 and character not in "\t\v\f" for character in line):
            rejects.append((number, "bad_encoding"))
        elif line == ANNOUNCED.header():
            headers += 1
        elif len(parts) != len(ANNOUNCED.names):
            rejects.append((number, "token_count"))
        else:
            record, reason = {}, None
            for name, part in zip(ANNOUNCED.names, parts, strict=True):
                value, domain = part.decode(), by_name[name].domain
                kind = type(domain).__name__
                if value == "-":
                    record[by_name[name].column] = None
                elif kind in ("Number", "UnixTime"):
                    good = value.isascii() and value.isdigit() and len(value.lstrip("0")) <= 19
                    amount = int(value) if good else -1
                    if kind == "UnixTime":
                        amount = amount // 1000 if amount >= 10**11 else amount
                        good = good and amount < 253_402_300_800
                    else:
                        good = good and amount <= domain.high
                    reason = reason or (None if good else "bad_number")
                    record[by_name[name].column] = amount
                elif kind == "Address":
                    try:
                        ipaddress.ip_address(value)
                    except ValueError:
                        reason = reason or "bad_address"
                    record[by_name[name].column] = value
                else:
                    if kind == "OneOf" and value not in domain.words:
                        reason = reason or "bad_value"
                    record[by_name[name].column] = value
            if reason:
                rejects.append((number, reason))
            else:
                records.append(record)
    return records, rejects, blank, headers


@settings(max_examples=300)
@given(mutated)
def test_the_kernel_agrees_with_a_slow_reader(tmp_path_factory, changed):
    folder = tmp_path_factory.mktemp("kernel", numbered=True)
    reading = read(lines(*changed), folder=folder)
    records, rejects, blank, headers = slowly(changed)
    seconds = [next(value for value in (r["start"], r["end"], 1566328660) if value is not None) for r in records]
    today = [r for r, second in zip(records, seconds, strict=True) if second // 86400 == 1566328660 // 86400]
    assert (reading.row.blank, reading.row.headers) == (blank, headers + 1)
    assert [(number, reason) for number, _, reason in reading.rejects] == rejects
    assert reading.row.other_day == len(records) - len(today)
    columns = [name.replace("-", "_") for name in ANNOUNCED.names]
    assert sorted(repr([record[c] for c in columns]) for record in reading.records) == sorted(repr([r[c] for c in columns]) for r in today)


@pytest.mark.parametrize("block_bytes", [64, 300, 1000])
def test_where_a_block_ends_changes_nothing(reads, monkeypatch, block_bytes):
    content = lines(SSH_REPLY, "", "short", ANNOUNCED.header(), with_field(SSH_REPLY, "protocol", "six"), SSH_REQUEST, end=False)
    whole = reads(content)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    pieces = reads(content)
    assert (pieces.rejects, pieces.row) == (whole.rejects, whole.row)
    assert sorted(map(repr, pieces.records)) == sorted(map(repr, whole.records))


def test_the_day_is_the_runs(reads):
    assert reads(lines(SSH_REPLY), day=date(2019, 8, 21)).row.other_days == {DAY: 1}


def test_a_lone_field_name_amid_records_is_a_broken_line(reads):
    assert reads(lines(SSH_REPLY, "version", SSH_REQUEST)).rejects == [(3, "version", "token_count")]
    assert reads(lines("10.0.0.1", header=LogFormat(("srcaddr",))), published=datetime(2019, 8, 20, tzinfo=timezone.utc)).row.records == 1
