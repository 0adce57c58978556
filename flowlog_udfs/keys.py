"""The S3 key grammar of flow log objects, and the listing of one day: a source URL in, `ListedObject`s out.

    [prefix/]AWSLogs/[o-id/]<account>/vpcflowlogs/<region>/YYYY/MM/DD/[HH/]
    [prefix/]AWSLogs/[o-id/]aws-account-id=<account>/aws-service=vpcflowlogs/aws-region=<region>/year=YYYY/month=MM/day=DD/[hour=HH/]
    <account>_vpcflowlogs_<region>_<flow log id>_<YYYYMMDDTHHMM>Z_<hash>.log[.gz|.parquet]

Source: AWS, "Flow log files" (VPC user guide); Transit Gateway flow logs share the grammar, with `service=` as Hive key on some pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Literal

from flowlog_udfs.storage import Storage, StoredObject

Layout = Literal["plain", "hourly", "hive", "hive-hourly"]

_PLAIN = r"(?P<account>[^/=]+)/vpcflowlogs/(?P<region>[^/=]+)/(?P<day>\d{4}/\d{2}/\d{2})/(?:(?P<hour>\d{2})/)?"
_HIVE = (
    r"aws-account-id=(?P<account>[^/]+)/(?:aws-)?service=vpcflowlogs/aws-region=(?P<region>[^/]+)/"
    r"year=(?P<year>\d{4})/month=(?P<month>\d{2})/day=(?P<dom>\d{2})/(?:hour=(?P<hour>\d{2})/)?"
)
_FILE = r"[^/_]+_vpcflowlogs_[^/_]+_(?P<flow_log_id>fl-[^/_]+)_(?P<published>\d{8}T\d{4})Z_[^/_.]+\.log(?:\.gz|\.parquet)?$"
_KEYS = tuple(re.compile(r"(?:^|/)AWSLogs/(?:o-[^/]+/)?" + folder + _FILE) for folder in (_PLAIN, _HIVE))

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
class ListedObject:
    """A flow log object as listed: where it is, and what its key says."""

    stored: StoredObject
    key: FlowLogKey


@dataclass(frozen=True, slots=True)
class Listing:
    """One day's listing: flow log objects sorted by key, and how many foreign objects lay among them."""

    objects: tuple[ListedObject, ...]
    skipped: int


def parse_key(key: str) -> FlowLogKey | None:
    """Read a key by the grammar; None when the object is not a flow log.

    >>> parse_key("AWSLogs/123456789012/vpcflowlogs/us-east-1/2018/06/20/"
    ...           "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z_fe123456.log.gz").flow_log_id
    'fl-1234abcd'
    >>> parse_key("AWSLogs/123456789012/CloudTrail/us-east-1/2018/06/20/trail.json.gz")
    """
    for pattern in _KEYS:
        if found := pattern.search(key):
            try:
                published_at = datetime.strptime(found["published"], "%Y%m%dT%H%M").replace(tzinfo=timezone.utc)
            except ValueError:
                return None
            layout: Layout = "plain" if pattern is _KEYS[0] else "hive"
            if found["hour"]:
                layout = "hourly" if layout == "plain" else "hive-hourly"
            return FlowLogKey(found["account"], found["region"], found["flow_log_id"], published_at, layout)
    return None


def list_day(
    storage: Storage,
    prefix: str,
    day: date,
    *,
    late_hours: int,
    accounts: frozenset[str] = frozenset(),
    regions: frozenset[str] = frozenset(),
    also: frozenset[str] = frozenset(),
) -> Listing:
    """List the objects that may hold rows of `day`: its own prefixes, and those of the next day published in its first `late_hours`.

    `accounts` and `regions` narrow the listing (empty: all found). `also` names keys of other days known to hold rows of this one, from
    an earlier run; they are taken where they still exist. Only day prefixes are listed, never a whole bucket, in a pool of threads.
    """
    next_day = day + timedelta(days=1)
    head_ends = datetime.combine(next_day, time(), timezone.utc) + timedelta(hours=late_hours)
    roots = _region_roots(storage, prefix, accounts, regions)
    extra_days = {found.published_at.date() for key in also if (found := parse_key(key))} - {day, next_day}

    def wanted(listed: ListedObject, listed_day: date) -> bool:
        in_head = listed_day == next_day and listed.key.published_at < head_ends
        return listed_day == day or in_head or listed.stored.key in also

    def one(root: str, hive: bool, listed_day: date) -> tuple[list[ListedObject], int]:
        own, skipped = [], 0
        for stored in storage.objects(root + _day_folder(listed_day, hive)):
            key = parse_key(stored.key)
            if key is None:
                # Foreign objects are counted where they lie: once, by the run of their own prefix.
                skipped += listed_day == day and not stored.key.endswith("/")
            elif wanted(listed := ListedObject(stored, key), listed_day):
                own.append(listed)
        return own, skipped

    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        days = sorted({day, next_day, *extra_days})
        results = list(pool.map(lambda job: one(*job), [(root, hive, d) for root, hive in roots for d in days]))
    objects = sorted((listed for own, _ in results for listed in own), key=lambda listed: listed.stored.key)
    return Listing(tuple(objects), sum(skipped for _, skipped in results))


def _day_folder(day: date, hive: bool) -> str:
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
