"""The contract of `report.json`: JSON Schema `report-1.schema.json`, whose version is in the document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from flowlog_udfs.errors import FlowlogError


def validate(document: Mapping[str, Any]) -> None:
    """Raise `FlowlogError` naming the first place where a document is not what the schema says."""
    fault = next(_validator().iter_errors(document), None)
    if fault is not None:
        place = "/".join(map(str, fault.absolute_path)) or "the document"
        raise FlowlogError(f"the report does not keep to its schema at {place}: {fault.message[:300]}")


@cache
def report_schema() -> dict[str, Any]:
    """The schema; not to be changed."""
    found: dict[str, Any] = json.loads(files("flowlog_udfs.report").joinpath("report-1.schema.json").read_text(encoding="utf-8"))
    return found


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(report_schema())
