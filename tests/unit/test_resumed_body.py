"""A body that breaks anywhere, any number of times, and is read in pieces of any size, gives the object's bytes or an error."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import FlexibleChecksumError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError

from flowlog_udfs import resumed_body
from flowlog_udfs.errors import ObjectError
from flowlog_udfs.resumed_body import TRIES, ResumedBody

BREAKS = [ProtocolError("reset"), ReadTimeoutError(endpoint_url="https://s3"), ConnectionResetError(104, "reset"), None]


class Broken(io.BytesIO):
    """A body that ends after what it has in an error, or (None) as if that were all."""

    def __init__(self, content: bytes, error: Exception | None) -> None:
        super().__init__(content)
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if not piece and size and self._error:
            raise self._error
        return piece


@dataclass
class Bucket:
    """One object, answered with bodies that break after so many bytes, one after the other; then whole."""

    content: bytes
    breaks: list[tuple[int, Exception | None]]
    asked: list[tuple[int, str | None]] = field(default_factory=list)

    def get(self, offset: int, etag: str | None) -> dict[str, Any]:
        rest = self.content[offset:]
        length, error = self.breaks[len(self.asked)] if len(self.asked) < len(self.breaks) else (len(rest), None)
        self.asked.append((offset, etag))
        return {"Body": Broken(rest[:length], error), "ContentLength": len(rest), "ETag": '"tag"'}


@pytest.fixture(autouse=True, scope="module")
def no_pauses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumed_body, "FIRST_PAUSE_SECONDS", 0)
        yield


@given(
    st.binary(max_size=200),
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from(BREAKS)), max_size=TRIES - 1),
    st.lists(st.integers(0, 50), max_size=10),
)
def test_the_bytes_come_whole_and_in_order(content: bytes, breaks: list[tuple[int, Exception | None]], sizes: list[int]):
    bucket = Bucket(content, breaks)
    with ResumedBody(bucket.get) as body:
        pieces = [*(body.read(size) for size in sizes), body.read()]
        assert body.read(10) == b""
    assert b"".join(pieces) == content
    # As full as a file's: a format is told by its first bytes.
    offset = 0
    for size, piece in zip(sizes, pieces, strict=False):
        assert len(piece) == min(size, len(content) - offset)
        offset += len(piece)
    # Only the object that was opened is read on, and never a byte twice.
    assert bucket.asked[0] == (0, None)
    assert all(etag == "tag" for _, etag in bucket.asked[1:])
    assert [offset for offset, _ in bucket.asked] == sorted(offset for offset, _ in bucket.asked)


def test_a_body_that_always_breaks_is_given_up():
    bucket = Bucket(b"x" * 100, [(0, None)] * 50)
    with pytest.raises(ObjectError, match=rf"broke {TRIES} times, at last after 0 of 100 bytes \(EOFError\)"):
        ResumedBody(bucket.get).read()
    assert len(bucket.asked) == TRIES
    # The listed object's tag is a condition of the first request too.
    with ResumedBody(bucket.get, "listed"):
        assert bucket.asked[-1] == (0, "listed")


def test_a_server_that_knows_no_ranges_does_not_double_bytes():
    bucket = Bucket(b"x" * 100, [(60, None)])
    body = ResumedBody(lambda offset, etag: bucket.get(0, etag))
    with pytest.raises(ObjectError, match="asked for the bytes from 60 on, S3 did not answer with those"):
        body.read()


def test_bytes_that_are_not_those_of_the_checksum_are_damage():
    class Wrong(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if piece := super().read(size):
                return piece
            raise FlexibleChecksumError(error_msg="Expected checksum A did not match calculated checksum: B")

    body = ResumedBody(lambda offset, etag: {"Body": Wrong(b"abc"), "ContentLength": 3, "ETag": '"tag"'})
    with pytest.raises(ObjectError, match=r"^damaged: Expected checksum A"):
        body.read()
