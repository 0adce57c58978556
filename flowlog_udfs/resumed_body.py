"""The content of an S3 object, whatever becomes of the connection: where one breaks, the rest is asked for by another request.

boto3 repeats requests, not bodies. A body breaks when its connection is reset, closed early or silent for longer than the read timeout.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from flowlog_udfs.errors import ObjectError
from flowlog_udfs.hashed_stream import READ_BYTES

TRIES = 8
"""How often one object's body may break before the object counts as unreadable."""
FIRST_PAUSE_SECONDS = 0.1
"""The pause after the first break; each one after it is twice as long."""

Get = Callable[[int, "str | None"], Any]
"""S3's GetObject: the answer from a byte offset on, provided that the object has the entity tag."""


class ResumedBody(io.RawIOBase):
    """A stream over what `get` answers, for one reading from begin to end.

    The rest of a body is that of the very object: the entity tag of the first answer is a condition of the others. Raises `ObjectError`
    when the body breaks `TRIES` times, or when its checksum, where S3 keeps one that boto3 knows, is not that of the bytes that came.
    """

    def __init__(self, get: Get, etag: str | None = None) -> None:
        super().__init__()
        self._get, self._etag = get, etag
        self._offset = self._breaks = 0
        answer = get(0, etag)
        self._etag = answer["ETag"].strip('"')
        self._body: Any = answer["Body"]
        self._end: int = answer["ContentLength"]

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, fewer at the end only; all that is left without a size."""
        if size is None or size < 0:
            return self.readall()
        piece = self._piece(size)
        while len(piece) < size and self._offset < self._end:
            piece += self._piece(size - len(piece))
        return piece

    def readall(self) -> bytes:
        """All that is left."""
        rest = io.BytesIO()
        while piece := self.read(READ_BYTES):
            rest.write(piece)
        return rest.getvalue()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()
        super().close()

    def _piece(self, size: int) -> bytes:
        """Bytes that came, at most `size`; none at the end, and where the body broke and was taken up again."""
        from botocore.exceptions import BotoCoreError, FlexibleChecksumError
        from urllib3.exceptions import HTTPError

        piece = b""
        try:
            piece = self._body.read(size)
            broke: Exception = EOFError("closed early")
        except FlexibleChecksumError as error:
            raise ObjectError(f"damaged: {error}") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            broke = error
        self._offset += len(piece)
        if not piece and size and self._offset < self._end:
            self._resume(broke)
        return piece

    def _resume(self, error: Exception) -> None:
        """Ask for what is left."""
        self._breaks += 1
        if self._breaks == TRIES:
            where = f"after {self._offset:,} of {self._end:,} bytes"
            raise ObjectError(f"unreadable: the connection broke {TRIES} times, at last {where} ({type(error).__name__})") from error
        self._body.close()
        time.sleep(FIRST_PAUSE_SECONDS * 2 ** (self._breaks - 1))
        answer = self._get(self._offset, self._etag)
        self._body = answer["Body"]
        if self._offset + answer["ContentLength"] != self._end:
            raise ObjectError(f"unreadable: asked for the bytes from {self._offset:,} on, S3 did not answer with those") from error
