"""Where S3 is: `AWS_ENDPOINT_URL_S3`, the one switch for another endpoint, mapped to every library that talks to S3."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class S3Endpoint:
    """Where S3 is, for every library that asks: `url` None means AWS itself."""

    url: str | None
    region: str

    @classmethod
    def from_environment(cls) -> S3Endpoint:
        """Read `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`) and the region variables, as the AWS SDKs do."""
        url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return cls(url, region)

    @property
    def is_plain_http(self) -> bool:
        """Whether the endpoint speaks unencrypted HTTP."""
        return self.url is not None and self.url.startswith("http://")

    def client(self) -> S3Client:
        """A boto3 client; standard retries, path-style addresses for endpoints other than AWS."""
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "max_attempts": 8},
            max_pool_connections=32,
            s3={"addressing_style": "path" if self.url else "auto"},
        )
        return boto3.client("s3", endpoint_url=self.url, region_name=self.region, config=config)

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
