"""Where S3 is: `AWS_ENDPOINT_URL_S3`, the one switch for another endpoint, mapped to every library that talks to S3.

Connections are encrypted. Plain HTTP is for this machine only, or where it is asked for by name.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flowlog_udfs.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ALLOW_HTTP = "FLOWLOG_ALLOW_HTTP"
"""The variable that, set to 1, allows plain HTTP to other machines."""
CONNECT_SECONDS, READ_SECONDS = 10, 30
"""How long to wait for a connection, and for the next bytes of an answer, before the request counts as broken."""


@dataclass(frozen=True, slots=True)
class S3Endpoint:
    """Where S3 is, for every library that asks: `url` None means AWS itself."""

    url: str | None
    region: str

    @classmethod
    def from_environment(cls) -> S3Endpoint:
        """Read `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`) and the region variables, as the AWS SDKs do.

        Raises `UsageError` for an endpoint that `refuse_plain_http` does not let through.
        """
        url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        refuse_plain_http(url)
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return cls(url, region)

    @property
    def is_plain_http(self) -> bool:
        """Whether the endpoint speaks unencrypted HTTP."""
        return _scheme(self.url) == "http"

    def client(self) -> S3Client:
        """A boto3 client; standard retries, path-style addresses for endpoints other than AWS.

        Requests are repeated up to eight times, with pauses that grow to 20 seconds (AWS SDKs reference, "Retry behavior").
        """
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": 8},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=32,
            s3={"addressing_style": "path" if self.url else "auto"},
        )
        client = boto3.client("s3", endpoint_url=self.url, region_name=self.region, config=config)
        if self.url is None:
            refuse_plain_http(client.meta.endpoint_url)  # AWS's shared configuration file may name another.
        return client

    def deltalake_options(self) -> dict[str, str]:
        """`storage_options` of the deltalake package; commits are conditional puts, safe with several writers."""
        options = {"AWS_REGION": self.region, "aws_conditional_put": "etag"}
        if self.url:
            options |= {"AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": str(self.is_plain_http).lower()}
        return options

    def sail_settings(self) -> dict[str, str]:
        """Variables by which Sail finds another endpoint than AWS; a reader's options it does not look at, and boto3 not at these."""
        return {"AWS_ENDPOINT": self.url, "AWS_ALLOW_HTTP": str(self.is_plain_http).lower()} if self.url else {}

    def s3a_options(self) -> dict[str, str]:
        """Options of Hadoop's S3A file system, to be given to a Spark reader."""
        options = {"fs.s3a.endpoint.region": self.region}
        if self.url:
            options |= {
                "fs.s3a.endpoint": self.url,
                "fs.s3a.path.style.access": "true",
                "fs.s3a.connection.ssl.enabled": str(not self.is_plain_http).lower(),
            }
        return options


@lru_cache(maxsize=4)
def client_of(endpoint: S3Endpoint) -> S3Client:
    """The client of an endpoint, one for each process."""
    return endpoint.client()


def refuse_plain_http(url: str | None) -> None:
    """Raise `UsageError` for an `http://` endpoint on another machine, unless `FLOWLOG_ALLOW_HTTP` is 1, and for what is no endpoint.

    >>> refuse_plain_http("http://127.0.0.1:9000")
    >>> refuse_plain_http("https://storage.example")
    """
    if url and "@" in url:
        # Not quoted: what stands before the @ may be a secret.
        raise UsageError("the endpoint's URL has credentials in it; leave them out, they come from AWS's own chain")
    if url and _scheme(url) not in ("http", "https"):
        raise UsageError(f"{url}: is no endpoint; write https://host or https://host:port")
    if _scheme(url) == "http" and not _is_loopback(url or "") and os.environ.get(ALLOW_HTTP) != "1":
        raise UsageError(f"{url}: logs and tables would travel unencrypted; use https://, or set {ALLOW_HTTP}=1 for a network you trust")


def _scheme(url: str | None) -> str:
    return urlsplit(url).scheme if url else ""


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
