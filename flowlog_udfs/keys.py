"""The S3 key grammar of flow log objects, and which of them one day's run reads: stored objects in, `ListedObject`s out.

    [prefix/]AWSLogs/[o-id/]<account>/vpcflowlogs/<region>/YYYY/MM/DD/[HH/]
    [prefix/]AWSLogs/[o-id/]aws-account-id=<account>/aws-service=vpcflowlogs/aws-region=<region>/year=YYYY/month=MM/day=DD/[hour=HH/]
    <account>_vpcflowlogs_<region>_<flow log id>_<YYYYMMDDTHHMM>Z_<hash>.log[.gz|.parquet]

Source: AWS, "Flow log files" (VPC user guide); Transit Gateway flow logs share the grammar, with `service=` as Hive key on some pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Literal

from flowlog_udfs.errors import UsageError
from flowlog_udfs.storage import FolderStorage, Storage, StoredObject, open_storage

Layout = Literal["plain", "hourly", "hive", "hive-hourly"]

# Of letters, digits and hyphens AWS makes accounts, Regions, flow log ids and hashes; nothing else is let through to tables and terminals.
_ID = "[A-Za-z0-9-]+"
_ROOT = r"(?:^|/)AWSLogs/(?:o-[^/]+/)?"
_PLAIN = r"(?P<account>ID)/vpcflowlogs/(?P<region>ID)/(?P<year>\d{4})/(?P<month>\d{2})/(?P<day>\d{2})/(?P<rest>.*)$"
_HIVE = (
    r"aws-account-id=(?P<account>ID)/(?:aws-)?service=vpcflowlogs/aws-region=(?P<region>ID)/"
    r"year=(?P<year>\d{4})/month=(?P<month>\d{2})/day=(?P<day>\d{2})/(?P<rest>.*)$"
)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text.replace("ID", _ID), re.ASCII)


_FOLDERS: tuple[tuple[re.Pattern[str], Layout, re.Pattern[str], Layout], ...] = (
    (_pattern(_ROOT + _PLAIN), "plain", _pattern(r"\d{2}/"), "hourly"),
    (_pattern(_ROOT + _HIVE), "hive", _pattern(r"hour=\d{2}/"), "hive-hourly"),
)
_NAME = _pattern(r"ID_vpcflowlogs_ID_(fl-ID)_(\d{8}T\d{4})Z_ID\.log(?:\.gz|\.parquet)?")

LISTING_THREADS = 16
AWSLOGS_DEPTH = 2
"""How many folders below the source an `AWSLogs/` is looked for; deeper ones need a longer source."""


@dataclass(frozen=True, slots=True)
class FlowLogKey:
    """What a flow log object's key says. `account_id` created the flow log; records may belong to another account."""

    account_id: str
    region: str
    flow_log_id: str
    published_at: datetime
    layout: Layout


@dataclass(frozen=True, slots=True)
class DayFolder:
    """A folder with objects of one date: what its name says. `above` stands before `AWSLogs/`; `layout` is None deeper than AWS files."""

    above: str
    account_id: str
    region: str
    day: date
    layout: Layout | None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """A flow log object as listed: where it is, and what its key says."""

    stored: StoredObject
    key: FlowLogKey


@dataclass(frozen=True, slots=True)
class Listing:
    """One day's listing: flow log objects sorted by key, how many foreign objects lay among them, and its time if it is an older one."""

    objects: tuple[ListedObject, ...]
    skipped: int
    taken_at: datetime | None = None


def parse_key(key: str) -> FlowLogKey | None:
    """Read a key by the grammar; None when the object is not a flow log.

    >>> parse_key("AWSLogs/123456789012/vpcflowlogs/us-east-1/2018/06/20/"
    ...           "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z_fe123456.log.gz").flow_log_id
    'fl-1234abcd'
    >>> parse_key("AWSLogs/123456789012/CloudTrail/us-east-1/2018/06/20/trail.json.gz")
    """
    cut = key.rfind("/") + 1
    named = _NAME.fullmatch(key, cut)
    return _flow_log_key(key[:cut], named[1], named[2]) if named else None


# Thousands of objects share a folder, and a few a flow log and a time of publication: each is worked out, and held, once.
@lru_cache(maxsize=4_096)
def _flow_log_key(folder: str, flow_log_id: str, published: str) -> FlowLogKey | None:
    place = day_folder(folder)
    if place is None or place.layout is None or any("\ud800" <= sign <= "\udfff" for sign in folder):
        # The last: a folder of a file system whose name is not UTF-8, which no table can hold.
        return None
    try:
        published_at = datetime.fromisoformat(f"{published[:4]}-{published[4:6]}-{published[6:11]}:{published[11:]}+00:00")
    except ValueError:
        return None
    return FlowLogKey(place.account_id, place.region, flow_log_id, published_at, place.layout)


@lru_cache(maxsize=4_096)
def day_folder(folder: str) -> DayFolder | None:
    """Read the folder part of a key, up to its last `/`; None when it is not below a date of the grammar.

    >>> day_folder("logs/AWSLogs/123456789012/vpcflowlogs/us-east-1/2018/06/20/16/").day
    datetime.date(2018, 6, 20)
    """
    for pattern, layout, hour, hourly in _FOLDERS:
        if found := pattern.search(folder):
            try:
                day = date(int(found["year"]), int(found["month"]), int(found["day"]))
            except ValueError:
                return None
            rest = found["rest"]
            shape = layout if not rest else hourly if hour.fullmatch(rest) else None
            above = folder[: found.start()] + ("/" if found.start() else "")
            return DayFolder(above, found["account"], found["region"], day, shape)
    return None


@dataclass(frozen=True)
class DayScope:
    """Which objects a run of `day` reads: those below `prefix` of its own date, and those of the next published in its first `late_hours`.

    `accounts` and `regions` narrow it (empty: all). `also` names keys of other dates known to hold rows of the day, from an earlier run.
    """

    prefix: str
    day: date
    late_hours: int
    accounts: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()

    @cached_property
    def dates(self) -> frozenset[date]:
        """The dates under which such objects are filed."""
        elsewhere = {found.published_at.date() for key in self.also if (found := parse_key(key))}
        return frozenset({self.day, self._next_day, *elsewhere})

    def judge(self, key: str) -> FlowLogKey | Literal["foreign"] | None:
        """What an object is to the run: one to read, a foreign one among those of the day, or (None) nothing.

        Foreign objects are counted where they lie: once, by the run of their own date.
        """
        place = day_folder(key[: key.rfind("/") + 1])
        if place is None or not self._covers(place):
            return None
        found = parse_key(key)
        if found is None:
            return "foreign" if place.day == self.day and not key.endswith("/") else None
        in_head = place.day == self._next_day and found.published_at < self._head_ends
        return found if place.day == self.day or in_head or key in self.also else None

    def _covers(self, place: DayFolder) -> bool:
        chosen = (not self.accounts or place.account_id in self.accounts) and (not self.regions or place.region in self.regions)
        # As deep below the source as a listing looks.
        near = place.above.startswith(self.prefix) and place.above.count("/", len(self.prefix)) <= AWSLOGS_DEPTH
        return chosen and near and place.day in self.dates

    @cached_property
    def _next_day(self) -> date:
        return self.day + timedelta(days=1)

    @cached_property
    def _head_ends(self) -> datetime:
        return datetime.combine(self._next_day, time(), timezone.utc) + timedelta(hours=self.late_hours)


def select_day(objects: Iterable[StoredObject], scope: DayScope) -> Listing:
    """The objects of a day's run among any others, however they became known."""
    own: dict[str, ListedObject] = {}
    foreign: set[str] = set()
    for stored in objects:
        found = scope.judge(stored.key)
        if found == "foreign":
            foreign.add(stored.key)
        elif found is not None:
            own[stored.key] = ListedObject(stored, found)
    return Listing(tuple(own[key] for key in sorted(own)), len(foreign))


def open_source(source: str) -> tuple[Storage, str]:
    """The storage of a source, and its prefix there; raises `UsageError` for a folder that is not there."""
    storage, prefix = open_storage(source)
    if isinstance(storage, FolderStorage) and not os.path.isdir(storage.root):
        raise UsageError(f"{source}: no such folder; give the folder that holds AWSLogs/")
    return storage, prefix


def list_day(storage: Storage, scope: DayScope) -> Listing:
    """List the objects of a day's run. Only day prefixes are listed, never a whole bucket, in a pool of threads."""
    roots = _region_roots(storage, scope.prefix, scope.accounts, scope.regions)
    prefixes = [root + _dated(day, hive) for root, hive in roots for day in sorted(scope.dates)]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        listings = list(pool.map(lambda prefix: select_day(storage.objects(prefix), scope), prefixes))
    objects = sorted((listed for listing in listings for listed in listing.objects), key=attrgetter("stored.key"))
    return Listing(tuple(objects), sum(listing.skipped for listing in listings))


def _dated(day: date, hive: bool) -> str:
    return f"year={day:%Y}/month={day:%m}/day={day:%d}/" if hive else f"{day:%Y/%m/%d}/"


def _region_roots(storage: Storage, prefix: str, accounts: frozenset[str], regions: frozenset[str]) -> list[tuple[str, bool]]:
    """The folders that hold dates, each with whether its dates are in Hive form."""

    def chosen(name: str, hive_key: str, allowed: frozenset[str]) -> bool:
        return not allowed or name.removeprefix(hive_key) in allowed

    roots = []
    for awslogs in _awslogs_folders(storage, prefix, AWSLOGS_DEPTH):
        for account_root, account in _account_folders(storage, awslogs):
            if not chosen(account, "aws-account-id=", accounts):
                continue
            hive = account.startswith("aws-account-id=")
            for service in ("aws-service=vpcflowlogs/", "service=vpcflowlogs/") if hive else ("vpcflowlogs/",):
                service_root = f"{account_root}{account}/{service}"
                regions_found = (name for name in storage.folders(service_root) if chosen(name, "aws-region=", regions))
                roots += [(f"{service_root}{region}/", hive) for region in regions_found]
    return roots


def _awslogs_folders(storage: Storage, prefix: str, depth: int) -> Iterator[str]:
    for name in storage.folders(prefix):
        if name == "AWSLogs":
            yield f"{prefix}AWSLogs/"
        elif depth:
            yield from _awslogs_folders(storage, f"{prefix}{name}/", depth - 1)


def _account_folders(storage: Storage, awslogs: str) -> Iterator[tuple[str, str]]:
    for name in storage.folders(awslogs):
        if name.startswith("o-"):
            yield from ((f"{awslogs}{name}/", account) for account in storage.folders(f"{awslogs}{name}/"))
        else:
            yield awslogs, name
