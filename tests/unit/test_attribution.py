"""Who initiated, episodes, and how it went: AWS's examples and a case for each rule."""

import ipaddress
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.observed_rows import connect, end_hash, row


def only(rows):
    assert len(rows) == 1, rows
    return rows[0]


def has(found, **expected):
    assert {name: found[name] for name in expected} == expected


def test_the_announcements_two_lines():
    # AWS's announcement: SYN-ACK from port 22, SYN from the other end.
    found = only(
        connect(
            row("172.31.22.145:22>90.90.0.200:62897", 24, 5225, flags=18, role="sender"),
            row("90.90.0.200:62897>172.31.22.145:22", 29, 4877, flags=2),
        )
    )
    has(found, initiator_addr="90.90.0.200", initiator_port=62897, responder_addr="172.31.22.145", responder_port=22)
    has(found, bytes_sent=4877, packets_sent=29, bytes_received=5225, packets_received=24)
    has(found, basis="syn+syn-ack", confidence=1.0, state="established", action="ACCEPT")


def test_a_connection_over_two_intervals_takes_its_initiator_from_the_first():
    # AWS, "Flow log record examples": the second interval shows only FIN on both sides.
    client, server = "52.213.180.42:43418", "10.0.0.62:5001"
    found = only(
        connect(
            row(f"{client}>{server}", 70, 100701, flags=2, start=75, end=133),
            row(f"{server}>{client}", 12, 632, flags=18, start=75, end=133, role="sender"),
            row(f"{server}>{client}", 1219, 63388, flags=1, start=133, end=313, role="sender"),
            row(f"{client}>{server}", 15774, 23294588, flags=1, start=133, end=313),
        )
    )
    has(found, initiator_addr="52.213.180.42", bytes_sent=23_395_289, packets_sent=15_844, bytes_received=64_020, packets_received=1_231)
    # Both FIN lie in one window: nobody can say whose was first.
    has(found, closed_by=None, is_open=False)


def test_a_short_connection_in_one_window():
    client, server = "52.213.180.42:43638", "10.0.0.62:5001"
    found = only(connect(row(f"{client}>{server}", 17, 1260, flags=3), row(f"{server}>{client}", 14, 967, flags=19, role="sender")))
    has(found, initiator_port=43638, basis="syn+syn-ack", closed_by=None, attempts=1, handshakes=1)


def test_verdicts_that_differ_the_receivers_holds():
    flow = "10.0.1.5:40000>10.0.2.7:5432"
    found = only(
        connect(
            row(flow, 3, 180, flags=2, at="eni-a", role="sender"),
            row(flow, 3, 180, flags=2, at="eni-b", action="REJECT"),
        )
    )
    has(found, action="REJECT", verdict_by="receiver", state="rejected", bytes_sent=0, rejected_bytes_sent=180, rejected_packets_sent=3)
    has(found, observation_points=2, interfaces=["eni-a", "eni-b"], initiator_interface_id="eni-a", responder_interface_id="eni-b")


def test_the_senders_row_alone_means_it_left():
    found = only(connect(row("10.0.1.5:40000>10.0.2.7:5432", 3, 180, flags=2, role="sender")))
    has(found, action="ACCEPT", verdict_by="sender", state="unanswered", bytes_sent=180)


def test_an_unanswered_syn_is_not_a_connection():
    found = only(connect(row("198.51.100.7:40000>10.0.0.220:22", 1, 40, flags=2)))
    has(found, state="unanswered", action="ACCEPT", attempts=1, handshakes=0)


def test_rst_answers_syn():
    found = only(
        connect(
            row("10.0.1.5:40000>10.0.2.7:81", 1, 60, flags=2),
            row("10.0.2.7:81>10.0.1.5:40000", 1, 40, flags=4, role="sender"),
        )
    )
    has(found, state="refused_by_host", initiator_addr="10.0.1.5", closed_by="reset")


def test_a_five_tuple_used_again_is_another_connection():
    client, server = "10.0.1.5:40000", "10.0.2.7:443"
    found = connect(
        row(f"{client}>{server}", 10, 1000, flags=3, start=0, end=50),
        row(f"{server}>{client}", 8, 800, flags=19, start=0, end=50, role="sender"),
        row(f"{client}>{server}", 5, 500, flags=3, start=600, end=650),
        row(f"{server}>{client}", 4, 400, flags=19, start=600, end=650, role="sender"),
    )
    assert [(one["episode"], one["bytes_sent"], one["bytes_received"]) for one in found] == [(1, 1000, 800), (2, 500, 400)]


def test_used_again_at_once():
    client, server = "10.0.1.5:40000", "10.0.2.7:443"
    found = connect(
        row(f"{client}>{server}", 10, 1000, flags=3, start=0, end=50),
        row(f"{server}>{client}", 8, 800, flags=19, start=1, end=50, role="sender"),
        row(f"{client}>{server}", 5, 500, flags=3, start=60, end=90),
        row(f"{server}>{client}", 4, 400, flags=19, start=61, end=90, role="sender"),
    )
    assert [one["bytes_received"] for one in found] == [800, 400]


def test_episodes_of_two_interfaces_whose_clocks_differ():
    client, server = "10.0.1.5:40000", "10.0.2.7:443"
    found = connect(
        *(
            row(f"{client}>{server}", 10, 1000 + start, flags=3, start=start + skew, end=start + skew + 5, at=at, role=role)
            for start in (0, 100)
            for at, role, skew in (("eni-a", "sender", 0), ("eni-b", "receiver", 47))
        )
    )
    assert [(one["episode"], one["bytes_sent"], one["records"]) for one in found] == [(1, 1000, 2), (2, 1100, 2)]


def test_a_syn_sent_again_is_the_same_attempt_at_a_connection():
    flow = "10.0.1.5:40000>10.0.2.7:443"
    found = only(connect(row(flow, 6, 360, flags=2, start=0, end=50), row(flow, 1, 60, flags=2, start=60, end=60)))
    has(found, attempts=2, handshakes=0, state="unanswered")


def test_silence_does_not_end_a_connection_that_shows_no_new_syn():
    flow = "10.0.1.5:40000>10.0.2.7:443"
    only(connect(row(flow, 1, 60, flags=0, start=0, end=10), row(flow, 1, 60, flags=0, start=5000, end=5010)))


@pytest.mark.parametrize(("silence", "episodes"), [(170, 1), (190, 2)])
def test_silence_ends_a_udp_exchange(silence, episodes):
    flow = "10.0.1.5:40000>10.0.2.7:514"
    found = connect(row(flow, 1, 60, protocol=17, start=0, end=10), row(flow, 1, 60, protocol=17, start=10 + silence, end=20 + silence))
    assert len(found) == episodes


def test_a_ping_whose_reply_is_half_refused():
    out, back = "10.0.0.4:0>10.0.0.5:0", "10.0.0.5:0>10.0.0.4:0"
    found = only(
        connect(
            row(out, 2, 120, protocol=1),
            row(back, 1, 60, protocol=1, role="sender"),
            row(back, 1, 60, protocol=1, role="sender", action="REJECT"),
        )
    )
    has(found, bytes_sent=120, bytes_received=60, rejected_bytes_received=60, action="MIXED", basis="none")


def test_icmp_goes_by_a_whole_windows_head_start():
    found = only(
        connect(
            row("10.0.0.5:0>10.0.0.4:0", 2, 120, protocol=1, start=0, end=50),
            row("10.0.0.4:0>10.0.0.5:0", 2, 120, protocol=1, start=60, end=90, role="sender"),
        )
    )
    has(found, initiator_addr="10.0.0.5", basis="sole-sender", confidence=0.5)


def test_a_syn_ack_that_nobody_asked_for():
    found = only(connect(row("198.51.100.80:80>10.0.1.5:51515", 1, 44, flags=18, action="REJECT")))
    has(found, basis="none", confidence=0.0, state="unsolicited")


def test_a_syn_ack_at_a_middlebox_that_sees_one_way_only():
    # A transit gateway's interfaces: request and reply may pass different ones.
    found = only(connect(row("10.40.2.236:80>10.20.33.164:39812", 1, 44, flags=19, role="transit")))
    has(found, initiator_addr="10.20.33.164", basis="syn-ack", state="established")


def test_udp_that_one_side_sent():
    found = only(connect(row("198.51.100.53:53>10.0.1.5:40000", 1, 44, protocol=17, action="REJECT")))
    has(found, initiator_addr="198.51.100.53", basis="sole-sender", confidence=0.6, state="rejected")


def test_a_proven_server_beats_the_list_of_services():
    server = (ipaddress.ip_address("10.0.9.9"), 31790)
    rows = (
        row("10.0.5.1:3389>10.0.9.9:31790", 5, 500, flags=0),
        row("10.0.9.9:31790>10.0.5.1:3389", 5, 500, flags=0, role="sender"),
    )
    proven = np.array([end_hash("vpc-1", server)], np.uint64)
    has(only(connect(*rows, servers=proven)), responder_port=31790, basis="known-server")
    has(only(connect(*rows)), responder_port=3389, basis="well-known-port")


def test_two_high_ports_without_flags():
    # A public trace in the default format: the client's port is the lower one, so the guess is wrong, and says how little it is worth.
    there, back = "10.0.14.231:31566>10.0.134.187:31790", "10.0.134.187:31790>10.0.14.231:31566"
    found = only(
        connect(
            row(back, 4, 562, start=407, end=466, at="eni-1", role="unknown"),
            row(there, 7, 988, start=407, end=466, at="eni-1", role="unknown"),
            row(there, 7, 988, start=502, end=514, at="eni-2", role="unknown"),
            row(back, 4, 562, start=502, end=514, at="eni-2", role="unknown"),
        )
    )
    has(found, basis="port-order", bytes_sent=562, bytes_received=988, observation_points=2)
    assert found["confidence"] < 0.6


def test_both_sides_answered_nobody_asked():
    found = only(
        connect(
            row("10.0.1.5:4000>10.0.2.7:443", 1, 60, flags=18),
            row("10.0.2.7:443>10.0.1.5:4000", 1, 60, flags=18, role="sender"),
        )
    )
    has(found, basis="none", confidence=0.0)


def test_both_sides_asked_the_earlier_wins_with_less_confidence():
    found = only(
        connect(
            row("10.0.2.7:443>10.0.1.5:4000", 1, 60, flags=2, start=0, end=5, role="sender"),
            row("10.0.1.5:4000>10.0.2.7:443", 1, 60, flags=2, start=3, end=5),
        )
    )
    has(found, initiator_addr="10.0.2.7", confidence=0.8)


def test_a_format_that_shows_every_flag_proves_by_syn_alone():
    rows = (
        row("10.0.2.7:9443>10.0.1.5:4000", 5, 60, flags=26, role="sender", trusted_ack=False),
        row("10.0.1.5:4000>10.0.2.7:9443", 5, 60, flags=24, trusted_ack=False),
    )
    has(only(connect(*rows)), basis="port-order")


def test_tunnels_have_no_initiator():
    found = only(connect(row("10.0.1.5:51000>10.0.2.7:4789", 5, 500, protocol=17)))
    has(found, traffic_class="tunnel", basis="none")


def test_the_whole_days_bytes_when_the_sender_is_logged_from_noon():
    flow = "10.0.1.5:1000>10.0.2.7:2000"
    receiver = [row(flow, 10, 100, flags=0, start=60 * m, end=60 * m + 59, at="eni-r") for m in range(1440)]
    sender = [row(flow, 10, 100, flags=0, start=60 * m + 31, end=60 * m + 90, at="eni-s", role="sender") for m in range(720, 1440)]
    found = only(connect(*receiver, *sender))
    assert found["bytes_sent"] + found["bytes_received"] == 144_000
    has(found, shortfall_packets=7_200)


def test_one_interface_after_the_other():
    flow = "10.0.1.5:1000>10.0.2.7:2000"
    morning = [row(flow, 10, 100, flags=0, start=60 * m, end=60 * m + 59, at="eni-r") for m in range(600)]
    evening = [row(flow, 10, 100, flags=0, start=60 * m, end=60 * m + 59, at="eni-s", role="sender") for m in range(700, 1440)]
    found = only(connect(*morning, *evening))
    assert found["bytes_sent"] + found["bytes_received"] == 100 * (600 + 740)


def test_late_rejects_change_nothing():
    client, server = "10.0.1.5:40000", "10.0.2.7:443"
    found = only(
        connect(
            row(f"{client}>{server}", 10, 1000, flags=3, start=0, end=50),
            row(f"{server}>{client}", 8, 800, flags=19, start=0, end=50, role="sender"),
            row(f"{server}>{client}", 1, 40, flags=4, start=55, end=55, role="sender", action="REJECT"),
        )
    )
    has(found, action="ACCEPT", state="established", late_rejects=1, bytes_received=800)


def test_overlapping_subscriptions_give_evidence_but_no_bytes():
    client, server = "10.0.1.5:40000", "10.0.2.7:8443"
    found = only(
        connect(
            row(f"{client}>{server}", 10, 1000),
            row(f"{server}>{client}", 8, 800, role="sender"),
            row(f"{client}>{server}", 10, 1000, flags=2, only_evidence=True),
        )
    )
    has(found, basis="syn", bytes_sent=1000, records=2)


def test_two_networks_with_the_same_addresses():
    flow = "198.51.100.9:40950>172.31.5.10:22"
    found = connect(
        row(flow, 1, 44, flags=2, action="REJECT", at="eni-1", network="vpc-1"),
        row(flow, 1, 44, flags=2, action="REJECT", at="eni-2", network="vpc-2"),
    )
    assert [one["rejected_bytes_sent"] for one in found] == [44, 44]


def test_closed_by_the_side_whose_fin_is_a_window_earlier():
    client, server = "10.0.1.5:40000", "10.0.2.7:443"
    found = only(
        connect(
            row(f"{client}>{server}", 10, 1000, flags=2, start=0, end=50),
            row(f"{server}>{client}", 8, 800, flags=19, start=0, end=50, role="sender"),
            row(f"{client}>{server}", 5, 500, flags=1, start=60, end=90),
        )
    )
    has(found, closed_by="responder")


rows_of_a_day = st.lists(
    st.builds(
        lambda way, ports, packets, flags, start, length, place, action: row(
            f"10.0.0.1:{ports[0]}>10.0.0.2:{ports[1]}" if way else f"10.0.0.2:{ports[1]}>10.0.0.1:{ports[0]}",
            packets,
            packets * 100,
            flags=flags,
            start=start,
            end=start + length,
            at=place[0],
            role={"eni-a": ("receiver", "sender"), "eni-b": ("sender", "receiver"), "eni-n": ("transit", "transit")}[place[0]][way],
            action=action,
        ),
        st.booleans(),
        st.sampled_from([(40000, 443), (40001, 443), (50000, 60000)]),
        st.integers(1, 20),
        st.sampled_from([None, 0, 1, 2, 3, 4, 18, 19]),
        st.integers(0, 3000),
        st.integers(0, 60),
        st.sampled_from([("eni-a",), ("eni-b",), ("eni-n",)]),
        st.sampled_from(["ACCEPT", "ACCEPT", "REJECT"]),
    ),
    min_size=1,
    max_size=12,
)


@given(rows_of_a_day, st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(rows, seed):
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert sorted(map(repr, connect(*rows))) == sorted(map(repr, connect(*shuffled)))


@given(rows_of_a_day)
def test_every_row_is_in_one_episode_and_no_byte_counts_twice(rows):
    found = connect(*rows)
    volumes = ("bytes_sent", "bytes_received", "rejected_bytes_sent", "rejected_bytes_received")
    assert sum(one["records"] for one in found) == len(rows)
    assert 0 < sum(one[name] for one in found for name in volumes) <= sum(one["bytes"] for one in rows)
    assert all(one[name] >= 0 for one in found for name in volumes)


@given(rows_of_a_day)
def test_one_interface_alone_gives_all_its_bytes(rows):
    alone = [one | {"observer": "eni-a"} for one in rows]
    found = connect(*alone)
    volumes = ("bytes_sent", "bytes_received", "rejected_bytes_sent", "rejected_bytes_received")
    assert sum(one[name] for one in found for name in volumes) == sum(one["bytes"] for one in alone)
