"""Addresses as words: text in and out, scopes, NAT64, and the longest prefix that holds an address, against Python's own `ipaddress`."""

import ipaddress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs.addresses import (
    PrefixTable,
    is_address,
    is_ipv4,
    is_link_local,
    is_multicast,
    is_nowhere,
    is_private,
    packed,
    unpacked,
    without_nat64,
)
from flowlog_udfs.errors import UsageError

Networks = dict[ipaddress.IPv4Network | ipaddress.IPv6Network, int]


def words(*texts: str | None):
    return packed(pa.array(texts, pa.string()))


def test_packed_maps_ipv4_and_keeps_ipv6():
    high, low = words("10.0.0.1", None, "2001:db8::1", "::ffff:10.0.0.1", "255.255.255.255")
    assert high.tolist() == [0, 0, 0x2001_0DB8_0000_0000, 0, 0]
    assert low.tolist() == [0xFFFF_0A00_0001, 0, 1, 0xFFFF_0A00_0001, 0xFFFF_FFFF_FFFF]


@pytest.mark.parametrize("kind", ["plain", "dictionary", "chunked", "sliced"])
def test_packed_reads_every_layout_of_a_column(kind: str):
    texts = ["10.0.0.1", None, "fe80::1", "10.0.0.1"]
    column = {
        "plain": pa.array(texts),
        "dictionary": pa.array(texts).dictionary_encode(),
        "chunked": pa.chunked_array([texts[:1], texts[1:]]),
        "sliced": pa.array(["::", *texts, "::"]).dictionary_encode().slice(1, 4),
    }[kind]
    high, low = packed(column)
    assert high.tolist() == [0, 0, 0xFE80 << 48, 0]
    assert low.tolist() == [0xFFFF_0A00_0001, 0, 1, 0xFFFF_0A00_0001]


def test_packed_of_no_rows_is_empty():
    high, low = packed(pa.array([], pa.string()))
    assert len(high) == len(low) == 0


@pytest.mark.parametrize("text", ["10.0.0.256", "010.0.0.1", "fe80::1%eth0", "", "host", "10.0.0.0/8"])
def test_what_is_no_address_is_named(text: str):
    assert not is_address(text)
    with pytest.raises(ValueError, match="is not an IPv4 or IPv6 address"):
        words(text)


@given(st.lists(st.one_of(st.none(), st.ip_addresses())))
def test_text_comes_back_as_python_writes_it(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address | None]):
    high, low = words(*(str(address) if address else None for address in addresses))
    expected = [None if address is None or (int(address) == 0 and address.version == 6) else _shown(address) for address in addresses]
    assert unpacked(high, low).to_pylist() == expected


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """A mapped address is IPv4; one that embeds IPv4 in the old way is written so by the C library, and read alike."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if 0xFFFF < int(address) < 1 << 32:
            return f"::{ipaddress.IPv4Address(int(address))}"
    return str(address)


def test_without_nat64_takes_the_ipv4_address_out():
    given_words = words("64:ff9b::cb00:7105", "64:ff9b::1:cb00:7105", "64:ff9b:1::cb00:7105", "203.0.113.5", None)
    assert unpacked(*without_nat64(*given_words)).to_pylist() == [
        "203.0.113.5",  # the well-known prefix
        "64:ff9b::1:cb00:7105",  # one bit beyond the 96 bits of the prefix
        "64:ff9b:1::cb00:7105",  # the local-use prefix of RFC 8215, which AWS does not use
        "203.0.113.5",
        None,
    ]


RESERVED, BROADCAST = ipaddress.ip_network("240.0.0.0/4"), ipaddress.ip_network("255.255.255.255/32")
ALL_RESERVED_BUT_BROADCAST = map(str, RESERVED.address_exclude(BROADCAST))

SCOPES = {
    "private": (is_private, ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]),
    "link-local": (is_link_local, ["169.254.0.0/16", "fe80::/10"]),
    "multicast": (is_multicast, ["224.0.0.0/4", "ff00::/8", "255.255.255.255/32"]),
    "nowhere": (is_nowhere, ["0.0.0.0/8", "127.0.0.0/8", *ALL_RESERVED_BUT_BROADCAST, "::/127"]),
    "ipv4": (is_ipv4, ["0.0.0.0/0"]),
}


@pytest.mark.parametrize("name", SCOPES)
def test_scopes_begin_and_end_where_the_rfcs_say(name: str):
    scope, cidrs = SCOPES[name]
    edges = set()
    for network in map(ipaddress.ip_network, cidrs):
        for number in (int(network[0]) - 1, int(network[0]), int(network[-1]), int(network[-1]) + 1):
            if 0 <= number < 1 << network.max_prefixlen:
                edges.add(type(network[0])(number))
    inside = [any(edge in network for network in map(ipaddress.ip_network, cidrs)) for edge in edges]
    assert scope(*words(*map(str, edges))).tolist() == inside
    assert True in inside and (False in inside or name == "ipv4")


def test_ipv4_is_told_from_ipv6():
    assert is_ipv4(*words("0.0.0.0", "::", "::fffe:1.2.3.4", "1::ffff:1.2.3.4")).tolist() == [True, False, False, False]


# Addresses and prefixes drawn from few bits, so that they nest, meet and repeat.
_numbers = st.integers(0, 255).map(lambda few: (few >> 4) << 28 | (few >> 2 & 3) << 14 | few & 3)
_v4 = st.tuples(_numbers, st.integers(0, 32)).map(lambda drawn: ipaddress.IPv4Network(drawn, strict=False))
_v6_number = st.one_of(
    st.tuples(_numbers, _numbers).map(lambda drawn: drawn[0] << 96 | drawn[1] << 50 | drawn[1]),
    # Around the mapped addresses, where both families meet.
    _numbers.map(lambda number: (0xFFFF << 32) - 1 + (number % 3 << 32)),
)
_v6 = st.tuples(_v6_number, st.integers(0, 128)).map(lambda drawn: ipaddress.IPv6Network(drawn, strict=False))
_tables = st.dictionaries(st.one_of(_v4, _v6), st.integers(0, 5), max_size=12)


def _longest(networks: Networks, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """Brute force. A mapped address is IPv4, and only IPv6 prefixes inside the mapped ones speak of it."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    holding = [network for network in networks if address in network]
    return networks[max(holding, key=lambda network: network.prefixlen)] if holding else -1


def _is_mapped(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return network.version == 6 and network.prefixlen >= 96 and int(network[0]) >> 32 == 0xFFFF


@given(st.lists(_tables, min_size=1, max_size=3), st.data())
def test_match_is_the_longest_prefix_of_its_group(tables: list[Networks], draw: st.DataObject):
    tables = [{network: value for network, value in table.items() if not _is_mapped(network)} for table in tables]
    edges = [edge for table in tables for network in table for edge in (network[0], network[-1])]
    more = draw.draw(st.lists(st.one_of(_numbers.map(ipaddress.IPv4Address), _v6_number.map(ipaddress.IPv6Address)), max_size=10))
    asked = [(group, address) for group in range(-1, len(tables) + 1) for address in (*edges, *more)]
    expected = [_longest(tables[group], address) if 0 <= group < len(tables) else -1 for group, address in asked]
    table = PrefixTable.build_grouped({group: [(str(net), value) for net, value in nets.items()] for group, nets in enumerate(tables)})
    high, low = words(*(str(address) for _, address in asked))
    assert table.match(high, low, np.array([group for group, _ in asked], np.int64)).tolist() == expected


@given(st.permutations(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "2001:db8::/32", "2001:db8::/64"]))
def test_order_of_prefixes_does_not_matter(cidrs: list[str]):
    table = PrefixTable.build((cidr, ipaddress.ip_network(cidr).prefixlen) for cidr in cidrs)
    asked = words("10.9.9.9", "10.1.9.9", "10.1.2.9", "10.1.2.3", "11.0.0.0", "2001:db8:1::1", "2001:db8::1", "2001:db9::")
    assert table.match(*asked).tolist() == [8, 16, 24, 32, -1, 32, 64, -1]


def test_all_ipv6_is_not_ipv4():
    table = PrefixTable.build([("::/0", 6)])
    assert table.match(*words("10.0.0.1", "2001:db8::1", "255.255.255.255", "::1")).tolist() == [-1, 6, -1, 6]


def test_an_empty_table_matches_nothing():
    assert PrefixTable.build([]).match(*words("10.0.0.1")).tolist() == [-1]
    assert PrefixTable.build_grouped({}).match(*words("10.0.0.1"), np.array([3])).tolist() == [-1]


@pytest.mark.parametrize("cidr", ["10.0.0.5/8", "10.0.0.0/33", "10.0.0/8", "vpc-1", "", "2001:db8::1/32"])
def test_a_bad_cidr_is_named(cidr: str):
    with pytest.raises(UsageError, match="is not a CIDR") as raised:
        PrefixTable.build([(cidr, 0)])
    assert repr(cidr) in str(raised.value)


def test_a_prefix_with_two_values_is_refused_and_with_one_value_twice_is_not():
    assert PrefixTable.build([("10.0.0.0/8", 1), ("10.0.0.0/8", 1)]).match(*words("10.0.0.1")).tolist() == [1]
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/8 is given twice"):
        PrefixTable.build([("10.0.0.0/8", 1), ("10.0.0.0/8", 2)])
