"""Pseudonyms for what names an owner: account ids, ids of AWS resources, addresses, people. In: a key and a value; out: a stand-in.

A pseudonym is a keyed hash (HMAC-SHA-256, RFC 2104): the same key gives the same pseudonym, in every report and export and on every day,
and nobody without the key can search for the value behind it. Addresses become members of 3fff::/20, which is for documentation (RFC
9637) and never on a network, so that a pseudonym is taken for nobody's address; 3fff:4::/32 stands for IPv4, 3fff:6::/32 for IPv6. Prefixes
are not preserved: two addresses of one subnet share no bits, for with shared bits one known address tells of its neighbours.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import stat
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flowlog_udfs.addresses import Flags, Words, is_address
from flowlog_udfs.errors import UsageError

KEY_BYTES = 32
"""The least length of a key: that of the hash (RFC 2104, section 3)."""
PREFIXES = frozenset(
    ("eipalloc", "eni", "fl", "i", "igw", "nat", "o", "pcx", "subnet", "tgw", "tgw-attach", "vgw", "vpc", "vpce", "vpce-svc", "vpn")
)
"""What ids of AWS begin with, and their pseudonyms too."""
_BLOCKS = {4: 0x3FFF_0004, 6: 0x3FFF_0006}
_ACCOUNT = re.compile(r"\d{12}")
_RESOURCE = re.compile(rf"({'|'.join(sorted(PREFIXES))})-(?:[0-9a-f]{{8}}|[0-9a-f]{{10,32}})")
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}")
_HOST = re.compile(r"ip-\d+-\d+-\d+-\d+")
_WORD = re.compile(r"[\w.:/@-]+")


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonyms under a key."""

    key: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Pseudonyms:
        """Those under the key in a file, all of its bytes; raises `UsageError` when it is short, or others may read it."""
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UsageError(f"{path}: others than its owner may read the key; chmod 600 {path}")
        key = path.read_bytes()
        if len(key.strip()) < KEY_BYTES:
            raise UsageError(f"{path}: a key has {KEY_BYTES} bytes or more; make one with: openssl rand -hex 32")
        return cls(key)

    def account(self, value: str) -> str:
        """Of an account id."""
        return f"account-p{self._hash('account', value)[:16]}"

    def resource(self, value: str) -> str:
        """Of the id of an interface, instance, subnet, VPC, flow log or translator, of whatever form; addresses and accounts as theirs."""
        if is_address(value):
            return self.address(value)
        if _ACCOUNT.fullmatch(value):
            return self.account(value)
        prefix = value.rpartition("-")[0]
        return f"{prefix if prefix in PREFIXES else 'name'}-p{self._hash('resource', value)[:16]}"

    def address(self, value: str) -> str:
        """Of an IPv4 or IPv6 address, however it is written; what is no address gets a name."""
        if not is_address(value):
            return f"address-p{self._hash('address', value)[:16]}"
        address = ipaddress.ip_address(value)
        low = int(self._hash("address", address.compressed)[:24], 16)
        return str(ipaddress.IPv6Address(_BLOCKS[address.version] << 96 | low))

    def person(self, value: str) -> str:
        """Of who answers for something."""
        return f"person-p{self._hash('person', value)[:16]}"

    def digest(self, value: str) -> str:
        """Of a hash in hexadecimal, as long as it is: whoever has an unkeyed hash of values can search for them."""
        return self._hash("digest", value)[: len(value)]

    def number(self, value: int) -> int:
        """Of an id that is a signed 64-bit number."""
        return int.from_bytes(bytes.fromhex(self._hash("number", str(value))[:16]), "big", signed=True)

    def text(self, value: str, known: Container[str] = ()) -> str:
        """A sentence with pseudonyms in place of all that has the form of an address, range, id, account or digest, or is `known`.

        >>> Pseudonyms(bytes(32)).text("cde 10.1.2.3 → internet tcp/443")
        'cde 3fff:4:ad11:191b:5b57:8991:5859:47ee → internet tcp/443'
        """
        return _WORD.sub(lambda found: self._word(found[0], known), value)

    @cached_property
    def name(self) -> str:
        """By which pseudonyms under one key are known, and nothing is learnt of it."""
        return self._hash("key", "")[:16]

    def _word(self, word: str, known: Container[str]) -> str:
        for bare in (word, word[:-1], word.rstrip(".:")):
            base, _, bits = bare.partition("/")
            if bare in known or _ACCOUNT.fullmatch(bare) or _RESOURCE.fullmatch(bare) or is_address(bare):
                made = self.resource(bare)
            elif _DIGEST.fullmatch(bare):
                made = self.digest(bare)
            elif is_address(base) and bits.isdecimal():
                made = f"range-p{self._hash('range', bare)[:16]}"
            elif _HOST.match(bare):
                made = f"host-p{self._hash('host', bare)[:16]}"
            else:
                continue
            return made + word[len(bare) :]
        # 10.0.0.1:443, arn:aws:sns:us-east-1:123456789012:topic, AWSLogs/123456789012/…, 10.0.0.1-10.0.0.9
        for separator in "/:@_-":
            if separator in word:
                return separator.join(self._word(part, known) for part in word.split(separator))
        return word

    def _hash(self, kind: str, value: str) -> str:
        # The kind is hashed along, so that equal texts of two kinds are not seen to be equal.
        return hmac.digest(self.key, f"{kind}\0{value}".encode(), "sha256").hex()


def stands_for_ipv4(high: Words, low: Words) -> Flags:
    """Pseudonyms of IPv4 addresses."""
    found: Flags = high >> 32 == _BLOCKS[4]
    return found
