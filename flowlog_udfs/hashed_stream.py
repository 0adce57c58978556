"""A stream that is counted and hashed while it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import IO

READ_BYTES = 4 << 20


class HashedStream:
    """A stream with the SHA-256 (`digest`) and the size in bytes of what was read from it so far."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = READ_BYTES) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        piece = self._stream.read(size)
        self.digest.update(piece)
        self.size += len(piece)
        return piece

    def pieces(self, first: bytes) -> Iterator[bytes]:
        """The piece already read, and all that follow."""
        piece = first
        while piece:
            yield piece
            piece = self.read()
