"""Refuses, before it is sent, what Sail 0.7 takes and then does wrongly without a word.

The library writes no table through its engine: tasks write part files, and `tables` commits them. This is for whoever uses the session for
more. Tried on Delta and Parquet tables with days 1 and 2, overwritten with one row of day 2:

- `partitionOverwriteMode` dynamic, `replaceUsing`, `replaceOn`: the whole table is replaced, day 1 is gone.
- `txnAppId`: ignored, so a write that is tried again doubles its rows.

`replaceWhere` is right for Delta, and what Sail does not know of `writeTo` and of SQL's INSERT it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from flowlog_udfs.errors import UsageError

_REFUSED = {
    "partitionoverwritemode": "dynamic",
    "replaceusing": None,
    "replaceon": None,
    "txnappid": None,
}
"""The last part of an option's or a setting's name, and the value that is refused; None for any."""
_IN_SQL = re.compile(r"partitionOverwriteMode\W+dynamic|replaceUsing|replaceOn\b|txnAppId", re.IGNORECASE)


class Guard(grpc.UnaryStreamClientInterceptor, grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Looks at what a Connect session is about to send; raises `UsageError` for a write, a setting or a statement that would do damage."""

    def intercept_unary_stream(self, send: Callable[..., Any], details: Any, request: Any) -> Any:
        """Queries and commands."""
        _look(request)
        return send(details, request)

    def intercept_unary_unary(self, send: Callable[..., Any], details: Any, request: Any) -> Any:
        """Settings."""
        _look(request)
        return send(details, request)


def _look(request: Any) -> None:
    kind = type(request).__name__
    if kind == "ConfigRequest" and request.operation.HasField("set"):
        _refuse((pair.key, pair.value) for pair in request.operation.set.pairs)
    if kind == "ExecutePlanRequest":
        command = request.plan.command
        for write in (command.write_operation, command.write_operation_v2):
            _refuse(write.options.items())
        for text in (command.sql_command.sql, command.sql_command.input.sql.query, request.plan.root.sql.query):
            if found := _IN_SQL.search(text):
                raise _damage(found[0])


def _refuse(settings: Iterable[tuple[str, str]]) -> None:
    for name, value in settings:
        refused = _REFUSED.get(name.rpartition(".")[2].lower(), "")
        if refused is None or refused == value.lower():
            raise _damage(f"{name} {value}")


def _damage(what: str) -> UsageError:
    return UsageError(f"{what}: Sail ignores this and would replace the whole table, or write twice; use replaceWhere, or run on Spark")
