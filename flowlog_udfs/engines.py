"""What computes: Apache Spark, the default and the reference, or Sail, a Spark Connect server that runs inside this process without a JVM.

Whatever is different on Sail stands here: how it is started and stopped, its settings, how work is cut for it. `sail_guard` refuses what it
would do wrongly without a word. Everything else in the library is the same code on both.
"""

from __future__ import annotations

import itertools
import os
import pickle
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flowlog_udfs.errors import UsageError
from flowlog_udfs.s3_endpoint import S3Endpoint

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENGINES = ("spark", "sail")

SETTINGS = {
    # Errors reach the run as exceptions; what else Sail logs (hints it knows nothing of, its comings and goings) would only hide its lines.
    "RUST_LOG": "error",
    # Sail lets go of a session that is idle for 15 minutes: less than it can take to list a large day between two queries.
    "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(24 * 3600),
    # By this pyspark makes columns and functions for Connect; else it asks a JVM to.
    "SPARK_CONNECT_MODE_ENABLED": "1",
}
"""Sail's settings are variables of the environment; these are ours while a session is open, where it says nothing else."""
_PARALLELISM = "SAIL_EXECUTION__DEFAULT_PARALLELISM"
_MESSAGE_BYTES = (1 << 31) - 1
_slots: weakref.WeakKeyDictionary[SparkSession, int] = weakref.WeakKeyDictionary()


@contextmanager
def engine_session(engine: str, spark: Callable[[], SparkSession]) -> Iterator[SparkSession]:
    """The session of an engine: `spark()`, or one on Sail, which ends with the context. Raises `UsageError` where Sail cannot be used."""
    if engine == "spark":
        yield spark()
        return
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        raise UsageError("--engine sail under spark-submit would keep a JVM for nothing; run the job by python, or by flowlog run")
    with sail_session() as session:
        yield session


@contextmanager
def sail_session() -> Iterator[SparkSession]:
    """A session on a Sail server in this process, which is stopped at the end; raises `UsageError` when Sail is not installed.

    The server listens on the loopback address only. Python functions run in its threads: as many partitions at once as the machine has
    cores, or as `SAIL_EXECUTION__DEFAULT_PARALLELISM` says.
    """
    try:
        from pysail.spark import SparkConnectServer

        import grpc  # noqa: F401 isort:skip - pyspark says of it in a page what is a line here
    except ImportError as error:
        raise UsageError(f"--engine sail needs the package {error.name}; install flowlog[sail]") from error
    slots = int(os.environ.get(_PARALLELISM) or 0) or os.cpu_count() or 1
    with _environment({**SETTINGS, _PARALLELISM: str(slots), **S3Endpoint.from_environment().sail_settings()}):
        server = SparkConnectServer()
        server.start(background=True)
        try:
            session = _connect(*server.listening_address)
            _slots[session] = slots
            try:
                yield session
            finally:
                session.stop()
        finally:
            server.stop()


def slots(session: SparkSession) -> int | None:
    """How many partitions may run at once, for an engine that does not see to that by itself; None for Spark.

    Sail runs all partitions of a stage at the same time, and puts a join without a shuffle into one: work has to be cut into as many
    partitions as should run.
    """
    return _slots.get(session)


class Held:
    """A function that travels to Sail's tasks as a number: they run in this process, and Sail takes no plan above 128 MiB.

    Each unpickling gives a copy of its own, as a worker of Spark's has. It can be had as long as this object lives, which the plan of a
    DataFrame keeps alive.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        from pyspark import cloudpickle

        self._pickled: bytes = cloudpickle.dumps(function)  # type: ignore[no-untyped-call]
        self._number = next(_numbers)
        _held[self._number] = self

    def __call__(self, *arguments: Any) -> Any:
        """Call a copy."""
        return _copy(self._number)(*arguments)

    def __reduce__(self) -> tuple[Callable[[int], Callable[..., Any]], tuple[int]]:
        return _copy, (self._number,)


_held: weakref.WeakValueDictionary[int, Held] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def _copy(number: int) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(_held[number]._pickled)  # noqa: S301 - pickled above, in this process
    return function


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment for a while, where it does not have them already."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _connect(address: str, port: int) -> SparkSession:
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    from flowlog_udfs.sail_guard import Guard

    channel = DefaultChannelBuilder(f"sc://{address}:{port}")
    channel.add_interceptor(Guard())
    # What a query hands back may come as one batch; pyspark takes 128 MiB where nothing else is said.
    channel.setChannelOption("grpc.max_receive_message_length", _MESSAGE_BYTES)
    return ConnectSession.builder.channelBuilder(channel).create()  # type: ignore[return-value]
