"""Who answers, judged by ports: each rule, their order, and the list of services."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs.errors import UsageError
from flowlog_udfs.services import NO_SIDE, PORT_BASES, SIDE_A, SIDE_B, PortRules, Service, load_services

TCP, UDP, ICMP, ESP = 6, 17, 1, 50
RULES = PortRules.build(
    [
        Service(443, TCP, "https"),
        Service(5432, TCP, "postgresql"),
        Service(3389, TCP, "rdp"),
        Service(50000, TCP, "db2"),
        Service(53, UDP, "dns"),
    ]
)


def judge(a: int, b: int, protocol: int = TCP, wide_a: bool = False, wide_b: bool = False) -> tuple[str, int]:
    wide = [np.array([wide_a]), np.array([wide_b])]
    verdict = RULES.judge(np.array([a]), np.array([b]), np.array([protocol]), *wide)
    return PORT_BASES[verdict.basis[0]], int(verdict.responder[0])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (40000, 443, ("well-known-port", SIDE_B)),  # listed and below 1024
        (5432, 40000, ("well-known-port", SIDE_A)),  # listed, not below 1024
        (40000, 700, ("well-known-port", SIDE_B)),  # not listed, below 1024
        (3389, 700, ("well-known-port", SIDE_A)),  # the list comes before IANA's ports
        (50000, 700, ("well-known-port", SIDE_A)),  # also where the listed port is one that clients get
        (5432, 443, ("well-known-port", SIDE_B)),  # both listed: the one below 1024
        (443, 700, ("well-known-port", SIDE_A)),  # both below 1024, one listed
        (3389, 5432, ("port-order", SIDE_A)),  # both listed, none below 1024: no rule but the last
        (50000, 5432, ("ephemeral-port", SIDE_B)),  # both listed, one of them a client's port
        (22, 700, ("port-order", SIDE_A)),  # both below 1024, none listed
        (40000, 8443, ("ephemeral-port", SIDE_B)),
        (32767, 32768, ("ephemeral-port", SIDE_A)),  # where Linux begins
        (40000, 65535, ("port-order", SIDE_A)),  # both ephemeral
        (31790, 31566, ("port-order", SIDE_B)),  # neither ephemeral: AWS's load balancer trace, where this guess is wrong
        (500, 500, ("none", NO_SIDE)),  # equal, though below 1024
        (40000, 40000, ("none", NO_SIDE)),
        (0, 40000, ("ephemeral-port", SIDE_A)),  # port 0 is no System Port
    ],
)
def test_tcp(a: int, b: int, expected: tuple[str, int]):
    assert judge(a, b) == expected


@pytest.mark.parametrize(
    ("a", "b", "protocol", "expected"),
    [
        (53, 40000, UDP, ("well-known-port", SIDE_A)),
        (5432, 40000, UDP, ("ephemeral-port", SIDE_A)),  # listed for TCP only
        (0, 0, ICMP, ("none", NO_SIDE)),
        (443, 40000, ICMP, ("none", NO_SIDE)),  # a protocol without ports
        (443, 40000, ESP, ("none", NO_SIDE)),
    ],
)
def test_other_protocols(a: int, b: int, protocol: int, expected: tuple[str, int]):
    assert judge(a, b, protocol) == expected


def test_a_nat_gateway_or_load_balancer_may_call_from_any_port_from_1024_on():
    # Its port 1111 is a client's; without knowing what it is, the guess would be wrong.
    assert judge(1111, 9000) == ("port-order", SIDE_A)
    assert judge(1111, 9000, wide_a=True) == ("ephemeral-port", SIDE_B)
    # AWS's trace: the load balancer's node has the lower port.
    assert judge(31566, 31790, wide_a=True) == ("ephemeral-port", SIDE_B)
    # Both may be clients' ports: nothing but their order is left.
    assert judge(1111, 40000, wide_a=True) == ("port-order", SIDE_A)
    assert judge(443, 1111, wide_a=True, wide_b=True) == ("well-known-port", SIDE_A)


_ports = st.one_of(st.integers(0, 65535), st.sampled_from([443, 5432, 3389, 50000, 53, 1023, 1024, 32767, 32768]))


@given(st.lists(st.tuples(_ports, _ports, st.sampled_from([TCP, UDP, ICMP, 132, 255]), st.booleans(), st.booleans()), min_size=1))
def test_swapping_the_sides_swaps_the_responder(rows: list[tuple[int, int, int, bool, bool]]):
    a, b, protocol, wide_a, wide_b = (np.array(column) for column in zip(*rows, strict=True))
    forth = RULES.judge(a, b, protocol, wide_a, wide_b)
    back = RULES.judge(b, a, protocol, wide_b, wide_a)
    assert forth.basis.tolist() == back.basis.tolist()
    swapped = {SIDE_A: SIDE_B, SIDE_B: SIDE_A, NO_SIDE: NO_SIDE}
    assert [swapped[side] for side in forth.responder.tolist()] == back.responder.tolist()
    assert ((forth.basis == 0) == (forth.responder == NO_SIDE)).all()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "services.toml"
    path.write_text(text)
    return path


def test_services_are_read_in_order(tmp_path: Path):
    ssh = '[[service]]\nport = 22\nprotocol = "tcp"\nname = "ssh"\n'
    path = written(tmp_path, '[[service]]\nport = 53\nprotocol = "udp"\nname = "dns"\nmeaning = "names"\n' + ssh)
    assert load_services(path) == (Service(22, 6, "ssh", ""), Service(53, 17, "dns", "names"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[service]]\nport = 0\nprotocol = "tcp"\nname = "x"', "service 1: port = 0: must be a whole number from 1 to 65535"),
        ('[[service]]\nport = true\nprotocol = "tcp"\nname = "x"', "port = True"),
        ('[[service]]\nport = 1\nprotocol = "icmp"\nname = "x"', "protocol = 'icmp': must be one of tcp, udp, sctp"),
        ('[[service]]\nport = 1\nprotocol = "tcp"', "name = ''"),
        ('[[service]]\nport = 1\nprotocol = "tcp"\nname = "x"\nnmae = "y"', "unknown key 'nmae'; known are"),
        ('[[service]]\nport = 1\nprotocol = "tcp"\nname = "x"\n' * 2, "service 2: tcp port 1 is listed twice"),
        ("[services]\n", "must hold \\[\\[service\\]\\] tables only; found services"),
        ("port =", "not valid TOML"),
    ],
)
def test_a_wrong_list_is_refused_by_name(tmp_path: Path, text: str, message: str):
    with pytest.raises(UsageError, match=message) as raised:
        load_services(written(tmp_path, text))
    assert str(raised.value).startswith(str(tmp_path / "services.toml"))


def test_a_missing_list_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"absent\.toml: No such file"):
        load_services(tmp_path / "absent.toml")
