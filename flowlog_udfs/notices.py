"""Telling others that a report is done: a command of the owner's, or an SNS topic."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowlog_udfs.errors import StorageError, UsageError
from flowlog_udfs.s3_endpoint import refuse_plain_http

SECONDS = 60
"""How long a command may take."""


@dataclass(frozen=True)
class Notices:
    """Whom to tell. The command is split like a shell would, but no shell sees it, nor anything from a log."""

    command: str | None = None
    topic: str | None = None

    def __post_init__(self) -> None:
        """Refuse a command that cannot be split, and what is no topic."""
        try:
            empty = self.command is not None and not shlex.split(self.command)
        except ValueError as error:
            raise UsageError(f"--notify {self.command!r}: {error}") from error
        if empty:
            raise UsageError("--notify: is empty; give a command")
        if self.topic is not None and (not self.topic.startswith("arn:") or len(self.topic.split(":")) != 6):
            raise UsageError(f"--notify-topic {self.topic!r}: must be the ARN of an SNS topic")

    def send(self, document: Mapping[str, Any], url: str) -> None:
        """Tell the verdict of a report; raises `StorageError` when the command fails or the topic refuses it."""
        told = notice(document, url)
        if self.command is not None:
            self._run(shlex.split(self.command), told)
        if self.topic is not None:
            self._publish(self.topic, told)

    def _run(self, command: list[str], told: Mapping[str, Any]) -> None:
        try:
            ended = subprocess.run(command, input=json.dumps(told), text=True, timeout=SECONDS, capture_output=True)  # noqa: S603 - the owner's
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(f"--notify {command[0]}: {error}; the report itself is done") from error
        if ended.returncode:
            why = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StorageError(f"--notify {command[0]}: ended with status {ended.returncode}: {why}; the report itself is done")

    def _publish(self, topic: str, told: Mapping[str, Any]) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            sns = boto3.client("sns", region_name=topic.split(":")[3])
            refuse_plain_http(sns.meta.endpoint_url)
            sns.publish(TopicArn=topic, Subject=f"flowlog {told['day']}: {told['outcome']}"[:100], Message=json.dumps(told, indent=1))
        except (BotoCoreError, ClientError) as error:
            raise StorageError(f"--notify-topic {topic}: {error}; the report itself is done") from error


def notice(document: Mapping[str, Any], url: str) -> dict[str, Any]:
    """What a notification says: the verdict in numbers, and where the report is; nothing that came from a log."""
    verdict = document["verdict"]
    head = {name: verdict[name] for name in ("outcome", "sentence", "open", "suppressed", "expired", "provisional")}
    return {"day": document["day"], "digest": document["digest"], **head, "report": url}
