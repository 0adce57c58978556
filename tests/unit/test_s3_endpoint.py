"""Connections to S3 are encrypted, but for those inside this machine and those for which somebody asked by name."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from flowlog_udfs.cli import run_maintenance
from flowlog_udfs.errors import UsageError
from flowlog_udfs.s3_endpoint import S3Endpoint, refuse_plain_http
from flowlog_udfs.storage import open_storage

LOOPBACK = ["http://127.0.0.1:9000", "http://127.8.0.1", "http://localhost:9000/", "http://[::1]:9000"]
ELSEWHERE = [
    "http://minio:9000",
    "http://10.0.0.5:9000",
    "http://localhost.example",
    "HTTP://s3.example",
    "http://[2001:db8::1]",
    "http://",
]


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FLOWLOG_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("url", [None, "https://minio.example", "https://10.0.0.5", *LOOPBACK])
def test_what_is_encrypted_or_stays_in_this_machine_is_let_through(url: str | None):
    refuse_plain_http(url)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("url", ELSEWHERE)
def test_plain_http_to_another_machine_is_wrong_use(monkeypatch, variable: str, url: str):
    monkeypatch.setenv(variable, url)
    with pytest.raises(UsageError, match="unencrypted; use https://, or set FLOWLOG_ALLOW_HTTP=1") as refused:
        open_storage("s3://logs")
    assert str(refused.value).startswith(f"{url}: ")


@pytest.mark.parametrize("url", ["10.0.0.5:9000", "minio", "ftp://storage.example", "file:///tmp"])
def test_what_is_no_endpoint_is_wrong_use(monkeypatch, url: str):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(UsageError, match="is no endpoint; write https://host or https://host:port"):
        open_storage("s3://logs")


@pytest.mark.parametrize("url", ["https://key:s3cr3t@10.0.0.5:9000", "http://key:s3cr3t@localhost", "key:s3cr3t@minio:9000"])
def test_credentials_in_an_endpoint_are_refused_and_not_repeated(monkeypatch, url: str):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(UsageError, match="the endpoint's URL has credentials in it") as refused:
        open_storage("s3://logs")
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://KEY:s3cr3t@logs/prefix", "s3a://s3cr3t@logs", "s3://logs:9000/s3cr3t"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str):
    with pytest.raises(UsageError, match="has credentials or a port in it; write s3://bucket/prefix") as refused:
        open_storage(url)
    assert "s3cr3t" not in str(refused.value)


def test_an_empty_path_is_not_the_folder_that_one_is_in():
    for nothing in ("", " "):
        with pytest.raises(UsageError, match="is empty; is a variable not set"):
            open_storage(nothing)


def test_a_token_with_a_line_break_is_not_repeated(monkeypatch, capsys):
    for name, value in (("AWS_ACCESS_KEY_ID", "AKIAX"), ("AWS_SECRET_ACCESS_KEY", "z"), ("AWS_SESSION_TOKEN", "FwoGSECRETTOKEN\n")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which keeps the credentials that it found first
    assert run_maintenance("test", ["--warehouse", "s3://bucket/tables"]) == 3
    told = capsys.readouterr().err
    assert "is there a line break in the credentials?" in told
    assert "SECRETTOKEN" not in told


@pytest.mark.parametrize("value, allowed", [("1", True), ("0", False), ("", False), ("yes", False)])
def test_it_can_be_asked_for_by_name(monkeypatch, value: str, allowed: bool):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    monkeypatch.setenv("FLOWLOG_ALLOW_HTTP", value)
    if not allowed:
        with pytest.raises(UsageError):
            S3Endpoint.from_environment()
        return
    endpoint = S3Endpoint.from_environment()
    assert endpoint.deltalake_options()["AWS_ALLOW_HTTP"] == "true"
    assert endpoint.s3a_options()["fs.s3a.connection.ssl.enabled"] == "false"


def test_other_libraries_are_told_to_encrypt(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://minio.example")
    endpoint = S3Endpoint.from_environment()
    assert endpoint.deltalake_options()["AWS_ALLOW_HTTP"] == "false"
    assert endpoint.sail_settings()["AWS_ALLOW_HTTP"] == "false"
    assert endpoint.s3a_options()["fs.s3a.connection.ssl.enabled"] == "true"


def test_an_endpoint_of_the_configuration_file_is_no_exception(monkeypatch, tmp_path: Path):
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://minio:9000\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # A test before may have made one, by another file.
    with pytest.raises(UsageError, match="http://minio:9000"):
        S3Endpoint.from_environment().client()
