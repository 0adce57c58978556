"""Which failures of S3 are of one object and which are of the run, and what is said of them."""

from __future__ import annotations

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from flowlog_udfs.errors import FlowlogError, GoneError, ObjectError, StorageError
from flowlog_udfs.s3_faults import is_unanswered, reading, reason, storing

RESET = (
    "Generic S3 error\n  \x1b[31m↳\x1b[0m Error performing PUT http://127.0.0.1:1/b/k in 3ms - HTTP error\n  \x1b[31m↳\x1b[0m error sending"
)
EXPIRED = (
    "Generic S3 error\n ↳ Server returned non-2xx status code\n ↳ 400 Bad Request"
    "\n ↳ <Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message><Token-0>secret</Token-0></Error>"
)


def answered(code: str, message: str = "Said by S3.") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")


@pytest.mark.parametrize(
    "code, kind, words",
    [
        ("NoSuchKey", GoneError, "gone: "),
        ("404", GoneError, "gone: "),
        ("PreconditionFailed", ObjectError, "replaced: "),
        ("AccessDenied", ObjectError, "denied: "),
        ("InvalidObjectState", ObjectError, "archived: "),
        ("KMS.DisabledException", ObjectError, "unreadable: S3 answered KMS.DisabledException"),
        ("InvalidRange", ObjectError, "unreadable: S3 answered InvalidRange"),
        ("ExpiredToken", StorageError, "s3://b/k cannot be read: the credentials have expired; renew them and run again (ExpiredToken)"),
        ("InvalidAccessKeyId", StorageError, "s3://b/k cannot be read: S3 does not accept the credentials"),
        ("NoSuchBucket", StorageError, "s3://b/k cannot be read: there is no such bucket"),
        ("SlowDown", StorageError, "s3://b/k cannot be read: S3 kept asking for fewer requests"),
        ("503", StorageError, "s3://b/k cannot be read: S3 kept failing"),
        ("PermanentRedirect", StorageError, "s3://b/k cannot be read: An error occurred (PermanentRedirect)"),
        ("NewIn2031", StorageError, "s3://b/k cannot be read: An error occurred (NewIn2031)"),
    ],
)
def test_what_is_said_of_one_object_is_told_from_the_rest(code: str, kind: type[FlowlogError], words: str):
    with pytest.raises(FlowlogError) as raised, reading("s3://b/k"):
        raise answered(code)
    assert type(raised.value) is kind
    assert str(raised.value).startswith(words)


@pytest.mark.parametrize(
    "error", [NoCredentialsError(), EndpointConnectionError(endpoint_url="https://s3"), ReadTimeoutError(endpoint_url="https://s3")]
)
def test_what_got_no_answer_is_of_the_run(error: Exception):
    with pytest.raises(StorageError, match=r"^s3://b/k cannot be read: ."), reading("s3://b/k"):
        raise error


@pytest.mark.parametrize("error", [answered("ExpiredToken"), S3UploadFailedError(f"Failed to upload: {answered('ExpiredToken')}")])
def test_whatever_fails_in_writing_is_of_the_run(error: Exception):
    with (
        pytest.raises(StorageError, match=r"^s3://b/k cannot be written: the credentials have expired"),
        storing("s3://b/k cannot be written"),
    ):
        raise error


def test_reasons_are_one_line_without_what_the_answer_quotes():
    assert reason(OSError(EXPIRED)) == "the credentials have expired; renew them and run again (ExpiredToken)"
    assert reason(OSError(EXPIRED.replace("ExpiredToken", "NewIn2031"))) == "S3 answered NewIn2031: The provided token has expired."
    assert "\n" not in reason(OSError(RESET))
    assert "\x1b" not in reason(OSError(RESET))
    assert len(reason(OSError("x" * 5_000))) == 300


def test_only_a_request_without_an_answer_may_have_been_carried_out():
    assert is_unanswered(OSError(RESET))
    assert not is_unanswered(OSError(EXPIRED))
    assert not is_unanswered(OSError(28, "No space left on device"))
