"""Good flow log objects, and what can go wrong with their bytes: whole buffers changed at once with numpy, the same for the same seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowlog_udfs.fields import BY_NAME, FIELDS, TGW_FIELDS, Address, Number, OneOf, UnixTime
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.sample.formats import ANNOUNCEMENT, DEFAULT

Octets = npt.NDArray[np.uint8]

BEGIN = 1_773_100_800  # 2026-03-10T00:00:00Z
FORMATS = tuple(
    LogFormat(tuple(names))
    for names in (
        DEFAULT,
        ANNOUNCEMENT,
        [field.name for field in FIELDS],
        [field.name for field in TGW_FIELDS],
        ["srcaddr", "dstaddr", "hop-speed", "bytes", "start", "traffic-path"],
        ["start"],
    )
)
SEPARATORS = b" \n"
PRINTABLE = bytes(range(33, 127))
HOSTILE = b"\x00\x01\x08\t\x0b\x0c\r\x1b\x1c\x1f\x7f\x80\x85\xa0\xc2\xe2\xef\xff\xfe\n -"
NUMBERS = (
    0,
    1,
    255,
    256,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    10**11 - 1,
    10**11,
    253_402_300_799,
)
ODD_TOKENS = (
    *map(str, NUMBERS),
    *(
        "-",
        "--",
        "+1",
        "-1",
        "1.5",
        "1e3",
        "0x1f",
        "0X1F",
        "007",
        "00000000000000000000000006",
        "NaN",
        "nan",
        "NULL",
        "null",
        "true",
        "１２",
    ),
    *("::", "::1", "2001:db8::1", "2001:DB8::1", "::ffff:10.0.0.1", "1:2:3:4:5:6:7::", "1::2::3", "fe80::1%eth0", "2001:db8::/32"),
    *("010.0.0.1", "10.0.0", "10.0.0.256", "10.0.0.1/8", "10.0.0.1.", "１.2.3.4"),
    *("253402300800", "253402300799999", "253402300800000", "99999999999", "100000000000"),
    *(
        "accept",
        "ACCEPT",
        "REJECT",
        "OK",
        "NODATA",
        "ipv4",
        "EFA",
        "ingress",
        "=cmd|'/c'",
        "<script>",
        "[red]",
        "\u202e",
        "\ufeff",
        "é",
        "\x85",
    ),
    "",
)
"""Tokens at the borders of what fields may hold, and beyond."""


def good_lines(seed: np.random.Generator, log_format: LogFormat, count: int) -> list[str]:
    """Records with a value of its domain in each field, here and there none."""
    columns = [_values(seed, name, count) for name in log_format.names]
    return [" ".join(tokens) for tokens in zip(*columns, strict=True)]


def _values(seed: np.random.Generator, name: str, count: int) -> list[str]:
    domain = BY_NAME[name].domain if name in BY_NAME else None
    if isinstance(domain, Number):
        # Counts so large that few of them fit into a sum are for the odd tokens.
        found = seed.integers(domain.low, min(domain.high, 1 << 50), count, endpoint=True) >> seed.integers(0, 40, count)
    elif isinstance(domain, UnixTime):
        found = BEGIN + seed.integers(-3_600, 90_000, count)
    elif isinstance(domain, OneOf):
        found = seed.choice(np.array(domain.words, object), count)
    elif isinstance(domain, Address):
        octets = seed.integers(0, 256, (count, 4))
        found = np.array([".".join(map(str, one)) if one[0] % 8 else f"2001:db8::{one[1]:x}:{one[2]:x}" for one in octets.tolist()], object)
    else:
        found = np.array([f"{name[:4]}-{one:x}" for one in seed.integers(0, 1 << 20, count).tolist()], object)
    texts = found.astype(str).astype(object)
    texts[seed.random(count) < 0.02] = "-"
    return texts.tolist()


def mutated(seed: np.random.Generator, lines: list[str], log_format: LogFormat) -> bytes:
    """The content of an object with these lines and, most times, a header, with faults: few or many, printable only or of any kind."""
    is_printable = seed.random() < 0.6
    rows = [line.split(" ") for line in lines]
    for place in set(seed.integers(0, len(rows), int(len(rows) * seed.choice([0, 0.005, 0.2]))).tolist()):
        rows[place] = _spoiled(seed, rows[place], is_printable=is_printable)
    kept = [log_format.header()] if seed.random() < 0.8 else []
    texts = kept + [" ".join(row) for row in rows]
    for place in seed.integers(0, len(texts), int(seed.integers(0, 4))).tolist():
        texts.insert(place, str(seed.choice(np.array(_odd_lines(log_format), object))))
    if seed.random() < 0.05:
        texts = [f"2026-03-10T00:00:00Z {text}" for text in texts]
    newline = "\r\n" if seed.random() < 0.1 else "\n"
    content = np.frombuffer((newline.join(texts) + (newline if seed.random() < 0.8 else "")).encode(), np.uint8)
    share = seed.choice([0, 1e-5, 1e-4, 3e-3], p=[0.2, 0.3, 0.3, 0.2])
    signs = np.frombuffer(PRINTABLE + SEPARATORS if is_printable else HOSTILE + bytes(range(256)), np.uint8)
    return bytes(_displaced(seed, _overwritten(seed, content, signs, share), signs, share))


def _spoiled(seed: np.random.Generator, tokens: list[str], *, is_printable: bool) -> list[str]:
    """A record with one thing wrong with its tokens, or nothing."""
    made, at, other = list(tokens), int(seed.integers(len(tokens))), int(seed.integers(len(tokens)))
    match int(seed.integers(8)):
        case 0:
            made[at], made[other] = made[other], made[at]
        case 1:
            del made[at]
        case 2:
            made.insert(at, made[other])
        case 3:
            made = made[:at]
        case 4:
            made[at] = made[at] * int(seed.choice([2, 50, 7_000], p=[0.6, 0.39, 0.01]))
        case 5:
            made.insert(at, "")
        case _:
            made[at] = str(seed.choice(np.array([one for one in ODD_TOKENS if one.isascii() or not is_printable], object)))
    return made


def _odd_lines(log_format: LogFormat) -> list[str]:
    """Blank lines, headers where none belong, what is nearly one, and a line too long."""
    header = log_format.header()
    other = FORMATS[len(header) % len(FORMATS)].header()
    nearly = [f"{header} {header}", f"x-new {header}", header.upper(), "version", "version action", header.replace(" ", "\x1f", 1)]
    return ["", "   ", "-", header, header, other, *nearly, header.replace("-", "-\x1c", 1), f" {header}", "x" * 70_000]


def _overwritten(seed: np.random.Generator, content: Octets, signs: Octets, share: float) -> Octets:
    """Some bytes replaced, some with one bit turned."""
    made, count = content.copy(), int(len(content) * share)
    made[seed.integers(0, len(made), count)] = signs[seed.integers(0, len(signs), count)]
    if len(signs) > 128:
        turned = seed.integers(0, len(made), count)
        made[turned] ^= np.left_shift(1, seed.integers(0, 8, count)).astype(np.uint8)
    return made


def _displaced(seed: np.random.Generator, content: Octets, signs: Octets, share: float) -> Octets:
    """Some bytes left out, some put in, and once in a while a stretch doubled."""
    count = int(len(content) * share)
    made = np.delete(content, seed.integers(0, len(content), count))
    made = np.insert(made, seed.integers(0, len(made), count), signs[seed.integers(0, len(signs), count)])
    if seed.random() < 0.1:
        first, last = sorted(seed.integers(0, len(made), 2).tolist())
        made = np.concatenate((made[:last], made[first:][:5_000], made[last:]))
    return made
