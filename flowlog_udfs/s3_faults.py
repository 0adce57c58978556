"""What boto3 and delta-rs raise, as flowlog's own errors: which failures are of one object, and which are of the run.

What S3 says of an object (gone, replaced, archived, denied) becomes its row in table `objects`. What says nothing about it (credentials,
the bucket, throttling, a service or a network that fails) ends the run with status 3, for a thousand objects would fail alike; so does
whatever is not known to be of the object. Source of the codes: Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from flowlog_udfs.answers import without_answers
from flowlog_udfs.errors import FlowlogError, GoneError, ObjectError, StorageError

DENIED = "denied"
"""How the error of an object begins to which access was refused. Where it is refused to all of them, it is the run's (`checks`)."""

_EXPIRED = "the credentials have expired; renew them and run again"
_REFUSED = "S3 does not accept the credentials; check the access key or profile"
_THROTTLED = "S3 kept asking for fewer requests; run again later, or with fewer tasks at once"
_FAILING = "S3 kept failing; run again later"
_OF_THE_RUN = {
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"), _EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "SignatureDoesNotMatch"), _REFUSED),
    **dict.fromkeys(("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"), _THROTTLED),
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "RequestTimeout", "500", "502", "503", "504"), _FAILING),
    "RequestTimeTooSkewed": "this machine's clock differs too much from that of S3; set it",
    "NoSuchBucket": "there is no such bucket",
}
_UNREADABLE = (ObjectError, "unreadable: S3 answered {}")
_OF_THE_OBJECT = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404"), (GoneError, "gone: the object vanished between listing and reading")),
    **dict.fromkeys(("PreconditionFailed", "412"), (ObjectError, "replaced: the object changed between listing and reading")),
    **dict.fromkeys(("AccessDenied", "403"), (ObjectError, f"{DENIED}: S3 refused access to the object")),
    "InvalidObjectState": (ObjectError, "archived: the object must be restored from its storage class before it can be read"),
    # A range behind the end, a delete marker, an encryption key that only the object's owner can give.
    **dict.fromkeys(("InvalidRange", "416", "MethodNotAllowed", "InvalidRequest"), _UNREADABLE),
}
_CODE = re.compile(r"An error occurred \(([\w.]+)\)|<Code>([\w.]+)</Code>")
_MESSAGE = re.compile(r"</Code>\s*<Message>([^<]+)</Message>")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Raise what boto3 raises inside as `ObjectError` where it is of the object `url`, else as `StorageError`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise _of_the_object(error) or StorageError(f"{url} cannot be read: {reason(error)}") from error


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Raise what boto3 raises inside as `StorageError`: `what` cannot be done, and why."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise StorageError(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why S3 did not do it, in one line of moderate length: an error of delta-rs quotes the whole answer.

    >>> reason(OSError("Generic S3 error 400 Bad Request <Error><Code>ExpiredToken</Code><Message>It expired.</Message></Error>"))
    'the credentials have expired; renew them and run again (ExpiredToken)'
    """
    code = _code(error)
    if code in _OF_THE_RUN:
        return f"{_OF_THE_RUN[code]} ({code})"
    quoted = _MESSAGE.search(str(error))
    told = f"S3 answered {code}: {quoted[1]}" if quoted else without_answers(_COLOUR.sub("", str(error)))
    line = " ".join(told.split())
    # Where it is cut, the end stays, which has the cause.
    return line if len(line) <= 300 else f"{line[:148]} … {line[-149:]}"


def is_unanswered(error: Exception) -> bool:
    """Whether delta-rs got no whole answer: it repeats no write, which may have been carried out or not, and no answer that broke."""
    return "HTTP error" in str(error) and _code(error) is None


def _of_the_object(error: Exception) -> FlowlogError | None:
    code = _code(error) or ""
    kind, words = _OF_THE_OBJECT.get(code) or (_UNREADABLE if code.startswith("KMS.") else (None, ""))
    return kind(words.format(code)) if kind else None


def _code(error: Exception) -> str | None:
    """The error code of S3's answer, if there was one. boto3's uploads and delta-rs only quote it in a text."""
    found = _CODE.search(str(error))
    return found and (found[1] or found[2])
