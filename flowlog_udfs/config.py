"""Settings from `flowlog.toml`: frozen dataclasses with defaults; unknown keys and wrong values are refused by name.

Spark's settings have no place here: they belong to `spark-*.conf` or `--conf`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from flowlog_udfs.errors import UsageError
from flowlog_udfs.formats import DEFAULT_FORMAT, LogFormat
from flowlog_udfs.networks import NetworksConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


Section = TypeVar("Section", "IngestConfig", "AttributionConfig", "CostConfig")


@dataclass(frozen=True)
class IngestConfig:
    """Section `[ingest]`: what a day's run reads, and when it refuses the day."""

    late_hours: int = 2
    max_rejected_share: float = 0.01
    max_failed_share: float = 0.01
    max_object_bytes: int = 16 << 30
    task_bytes: int = 128 << 20
    cloudwatch_format: str = str(DEFAULT_FORMAT)

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, low, high in (
            ("late_hours", 0, 24),
            ("max_rejected_share", 0, 1),
            ("max_failed_share", 0, 1),
            ("max_object_bytes", 1, 1 << 40),
            ("task_bytes", 1 << 20, 1 << 30),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"[ingest] {name} = {value}: must be between {low} and {high}")
        LogFormat.parse(self.cloudwatch_format)


@dataclass(frozen=True)
class AttributionConfig:
    """Section `[attribution]`: idle times that end a connection, in seconds, and files: services, and AWS's `ip-ranges.json` of the day.

    `services` is empty for the list that comes with flowlog, `ip_ranges` where peers on the internet need not be told from AWS.
    """

    idle_seconds: int = 350
    udp_idle_seconds: int = 180
    services: str = ""
    ip_ranges: str = ""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("idle_seconds", "udp_idle_seconds"):
            if not 1 <= getattr(self, name) <= 86_400:
                raise UsageError(f"[attribution] {name} = {getattr(self, name)}: must be between 1 and 86400")


@dataclass(frozen=True)
class CostConfig:
    """Section `[cost]`: what a run holds while it works, and the price of one vCPU for an hour; 0 where nobody says.

    Nothing in a table depends on it.
    """

    vcpus: float = 0.0
    vcpu_hour_price: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("vcpus", "vcpu_hour_price"):
            if not 0 <= getattr(self, name) <= 1_000_000:
                raise UsageError(f"[cost] {name} = {getattr(self, name)}: must be between 0 and 1000000")


@dataclass(frozen=True)
class Config:
    """All settings. `formats` names the format of flow logs whose objects have no header line, by flow log id.

    The digests of what tables are made from are taken of its text, in which `cost` has no place.
    """

    ingest: IngestConfig = field(default_factory=IngestConfig)
    formats: Mapping[str, LogFormat] = field(default_factory=dict)
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    cost: CostConfig = field(default_factory=CostConfig, repr=False)

    def digest(self) -> str:
        """SHA-256 of all settings that results depend on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def load_config(path: str | None) -> Config:
    """Read a configuration file (None: all defaults); raises `UsageError` naming file, key, value and remedy."""
    if path is None:
        return Config()
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    try:
        _refuse_unknown(tables, {"ingest", "formats", "networks", "attribution", "cost"}, "section")
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise UsageError(f"[{name}] = {table!r}: must be a section")
        formats = {
            flow_log_id: LogFormat.parse(_typed(f"[formats] {flow_log_id}", text, str))
            for flow_log_id, text in sorted(tables.get("formats", {}).items())
        }
        networks = tables.get("networks", {})
        _refuse_unknown(networks, {"links"}, "key of [networks]")
        return Config(
            _section(IngestConfig, "ingest", tables.get("ingest", {})),
            formats,
            NetworksConfig.parse(networks.get("links", [])),
            _section(AttributionConfig, "attribution", tables.get("attribution", {})),
            _section(CostConfig, "cost", tables.get("cost", {})),
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _section(kind: type[Section], name: str, table: dict[str, Any]) -> Section:
    defaults = {f.name: getattr(kind, f.name) for f in fields(kind)}
    _refuse_unknown(table, set(defaults), f"key of [{name}]")
    return kind(**{key: _typed(f"[{name}] {key}", value, type(defaults[key])) for key, value in table.items()})


def _refuse_unknown(found: Mapping[str, Any], known: set[str], what: str) -> None:
    for name in sorted(set(found) - known):
        raise UsageError(f"unknown {what} {name!r}; known are {', '.join(sorted(known))}")


def _typed(name: str, value: Any, kind: type) -> Any:
    accepted = (int, float) if kind is float else kind
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise UsageError(f"{name} = {value!r}: must be a {kind.__name__}")
    return value
