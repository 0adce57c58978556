"""Errors that quote answers of S3, or headers of requests, as text that may be written.

An answer can hold the request that it refuses, and with it the session token (ExpiredToken, SignatureDoesNotMatch). A token with
a line break behind it, as files and secrets of Kubernetes have it, is quoted by Python's HTTP client.
"""

from __future__ import annotations

import re
import traceback

_ANSWER = re.compile(r"(?:<\?xml[^>]*>\s*)?<Error>.*?(?:</Error>|\Z)", re.DOTALL)
_HEADER = re.compile(r"Invalid header value b?(['\"]).*?(?:\1|\Z)", re.DOTALL)
_CODE, _MESSAGE = (re.compile(rf"<{name}>([^<]*)</{name}>") for name in ("Code", "Message"))


def without_answers(text: str) -> str:
    r"""A text with code and message in place of each answer (Amazon S3 API reference, "Error responses"), and without values of headers.

    >>> without_answers("403 Forbidden: <Error><Code>ExpiredToken</Code><Message>It expired.</Message><Token-0>FwoG</Token-0></Error>")
    '403 Forbidden: ExpiredToken: It expired.'
    >>> without_answers("HTTP client: Invalid header value b'FwoG\n'")
    'HTTP client: a header of the request cannot be sent; is there a line break in the credentials?'
    """

    def told(answer: re.Match[str]) -> str:
        parts = (found[1] for found in (_CODE.search(answer[0]), _MESSAGE.search(answer[0])) if found)
        return ": ".join(parts) or "an answer without a code"

    return _HEADER.sub("a header of the request cannot be sent; is there a line break in the credentials?", _ANSWER.sub(told, text))


def trace(error: Exception) -> str:
    """The traceback of an error that nobody has foreseen."""
    return without_answers("".join(traceback.format_exception(error)))
