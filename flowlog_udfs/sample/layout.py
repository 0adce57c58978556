"""Which places a sample has and which flow logs watch them: an ordinary company with one case of everything, or one plain VPC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.sample.formats import ALPHABETICAL, ANNOUNCEMENT, DEFAULT, RICH, Format
from flowlog_udfs.sample.topology import ENDPOINT, NAT, NLB, REGIONAL_NAT, TGW, Builder, Column, Topology, ipv4

ACCOUNT_A, ACCOUNT_B = "123456789012", "048512345678"
"""The second begins with a zero, which a number would lose."""
EAST, WEST = "us-east-1", "eu-west-1"

HOUR = 3_600
KeyLayout = Literal["plain", "hourly", "hive", "hive-hourly"]
FileFormat = Literal["text", "parquet"]


@dataclass(frozen=True, slots=True)
class FlowLog:
    """One subscription. `watches` names a VPC, a subnet or an interface's role; `begins` and `ends` are seconds of the sample's first day,
    its history left out, until `starting_at` says when that day begins.
    """

    id: str
    account: str
    region: str
    watches: str
    format: Format
    interval: int = 60
    traffic: Literal["ALL", "ACCEPT", "REJECT"] = "ALL"
    begins: float = -np.inf
    ends: float = np.inf
    key_layout: KeyLayout = "plain"
    file_format: FileFormat = "text"

    def admits(self, rejected: Column) -> Column:
        """Whether its traffic type lets rows through, given which of them are REJECT."""
        return rejected if self.traffic == REJECT else ~rejected if self.traffic == ACCEPT else np.ones(len(rejected), bool)

    def starting_at(self, second: float) -> FlowLog:
        """The same flow log where the day that its life is told by begins at another second."""
        return replace(self, begins=self.begins + second, ends=self.ends + second)

    @property
    def rank(self) -> tuple[int, str]:
        """Where two flow logs watch one interface, the lower rank is believed: more fields first, then the smaller id."""
        return -len(self.format), self.id


def build_topology(seed: int, hosts: int, *, plain: bool, clean: bool = False) -> Topology:
    """Lay out the places with `hosts` instances in each large subnet; `plain` gives the main VPC only, `clean` none without a flow log."""
    build = Builder(seed)
    main = build.vpc("main", "10.0.0.0/16", ACCOUNT_A, EAST, "2600:1f18:1234:5600::/56")
    public = build.subnet(main, "main-public", "10.0.0.0/24")
    public_b = build.subnet(main, "main-public-b", "10.0.16.0/24", 2)
    app_a = build.subnet(main, "main-app-a", "10.0.1.0/24")
    app_b = build.subnet(main, "main-app-b", "10.0.2.0/24", 2)
    store = build.subnet(main, "main-db", "10.0.3.0/24")
    service = build.subnet(main, "main-service", "10.0.5.0/24")
    build.interface("nat", public, "10.0.0.220", instance=False, kind=NAT, public="198.51.100.220")
    build.interface("nat", public_b, "10.0.16.220", instance=False, kind=NAT, public="198.51.100.221")
    for number in range(max(4, hosts // 4)):
        build.interface("web", public, f"10.0.0.{10 + number % 100}", public=f"198.51.100.{10 + number % 100}")
    build.hosts("app", app_a, "10.0.1.5", hosts, fields={"instance-tag": "billing", "interface-tag": "app%20tier"})
    build.hosts("app", app_b, "10.0.2.5", hosts, nitro=False)
    build.hosts("db", store, "10.0.3.7", max(3, hosts // 8), instance=False)
    build.hosts("dns", service, "10.0.5.53", 2)
    pods: list[tuple[int, int]] = []
    if not plain:
        _add_extras(build, hosts, pods)
        _add_sensitive(build)
        if not clean:
            archive = build.vpc("archive", "10.110.0.0/16", ACCOUNT_A, EAST)
            build.interface("archive", build.subnet(archive, "archive-store", "10.110.1.0/24"), "10.110.1.5")
    vpcs = {vpc.name: vpc for vpc in build.vpcs}
    peerings = () if plain else ((main, vpcs["ops"]), (main, vpcs["vault"]))
    return build.finish(pods, peerings, [] if plain else [main, vpcs["shared"], vpcs["hub"]])


def _add_extras(build: Builder, hosts: int, pods: list[tuple[int, int]]) -> None:
    by_name = {subnet.name: subnet for subnet in build.subnets}
    main, public = build.vpcs[0], by_name["main-public"]
    build.hosts("alb", public, "10.0.0.130", 2, instance=False)
    build.hosts("nlb", public, "10.0.0.140", 2, instance=False, kind=NLB, account="unknown")
    build.interface("bastion", public, "10.0.0.150", public="198.51.100.150")
    build.interface("vpn", public, "10.0.0.160", public="198.51.100.160", nitro=False)
    build.hosts("lambda", by_name["main-service"], "10.0.5.100", 4, instance=False)
    build.interface("endpoint", by_name["main-service"], "10.0.5.200", instance=False, kind=ENDPOINT, account="unknown")
    # This host's clock is late, as in the one published trace that has both packets and records.
    build.interface("late-clock", by_name["main-app-a"], "10.0.1.250", skew=47)
    cluster = build.subnet(main, "main-eks", "10.0.32.0/20", 2)
    for node in range(max(3, hosts // 8)):
        build.interface("node", cluster, f"10.0.32.{10 + node}")
        pods += [(ipv4("10.0.36.0") + 16 * node + pod, len(build.interfaces) - 1) for pod in range(8)]
    tgw_main = build.subnet(main, "main-tgw", "10.0.48.0/28")
    build.interface("tgw-main", tgw_main, "10.0.48.5", instance=False, kind=TGW)

    shared = build.vpc("shared", "10.20.0.0/16", ACCOUNT_A, EAST)
    build.hosts("shared", build.subnet(shared, "shared-app", "10.20.33.0/24"), "10.20.33.5", hosts, nitro=False)
    quiet = build.subnet(shared, "shared-quiet", "10.20.34.0/24")
    build.hosts("quiet", quiet, "10.20.34.5", 2, nitro=False)
    build.interface("tgw-shared", build.subnet(shared, "shared-tgw", "10.20.250.0/28"), "10.20.250.5", instance=False, kind=TGW)

    hub = build.vpc("hub", "10.40.0.0/16", ACCOUNT_A, EAST)
    build.interface(
        "hub-nat", build.subnet(hub, "hub-public", "10.40.0.0/24"), "10.40.0.220", instance=False, kind=NAT, public="198.51.100.240"
    )
    hub_1, hub_2 = build.subnet(hub, "hub-tgw-1", "10.40.1.0/24"), build.subnet(hub, "hub-tgw-2", "10.40.2.0/24", 2)
    build.interface("tgw-hub-request", hub_1, "10.40.1.175", instance=False, kind=TGW)
    build.interface("tgw-hub-reply", hub_2, "10.40.2.31", instance=False, kind=TGW)
    ecs = {"ecs-cluster-name": "web", "ecs-service-name": "front", "ecs-task-id": "0f3c5e2a"}
    build.hosts("hub-web", hub_2, "10.40.2.236", 4, fields=ecs)

    regional = build.vpc("regional", "10.60.0.0/16", ACCOUNT_B, WEST)
    gateway = build.id("nat", "regional")
    for address in ("107.22.182.139", "107.22.190.17"):
        build.interface("regional-nat", regional, address, instance=False, kind=REGIONAL_NAT, fields={"resource-id": gateway})
    build.hosts("regional", build.subnet(regional, "regional-app", "10.60.1.0/24"), "10.60.1.5", hosts)

    # Both default VPCs have the same range and even the same addresses.
    for name, account, region in (("default-1", ACCOUNT_A, EAST), ("default-2", ACCOUNT_B, WEST)):
        vpc = build.vpc(name, "172.31.0.0/16", account, region)
        build.hosts(name, build.subnet(vpc, name, "172.31.0.0/20"), "172.31.5.10", max(4, hosts // 4), nitro=False)

    ops = build.vpc("ops", "10.80.0.0/16", ACCOUNT_A, EAST)
    desks = build.subnet(ops, "ops-desks", "10.80.1.0/24")
    build.hosts("ops", desks, "10.80.1.5", 6)
    build.interface("ops-half-day", desks, "10.80.1.50")

    lab = build.vpc("lab", "10.90.0.0/16", ACCOUNT_A, EAST)
    build.hosts("lab", build.subnet(lab, "lab-bench", "10.90.1.0/24"), "10.90.1.5", 8)


def _add_sensitive(build: Builder) -> None:
    """What the policy calls sensitive, in a VPC of its own; and an endpoint that takes encrypted traffic only."""
    vault = build.vpc("vault", "10.100.0.0/16", ACCOUNT_A, EAST)
    cards = build.subnet(vault, "vault-cards", "10.100.1.0/24", tags=(("zone", "cardholder"),))
    build.hosts("vault", cards, "10.100.1.5", 3, nitro=False)
    build.interface("vault-gate", cards, "10.100.1.50", nitro=False, public="198.51.100.50")
    hub = next(subnet for subnet in build.subnets if subnet.name == "hub-tgw-1")
    build.interface("hub-endpoint", hub, "10.40.1.200", instance=False, kind=ENDPOINT, account="unknown")


def flow_logs(seed: int, *, plain: bool, clean: bool = False) -> tuple[FlowLog, ...]:
    """The flow logs over the topology of the same seed, each in the format that shows its case best.

    Those of a `clean` sample watch everything all day and show every field, so that each rule can be answered.
    """
    naming = Builder(seed)

    def log(name: str, account: str, region: str, format: Format, watches: str | None = None, **options: Any) -> FlowLog:
        return replace(FlowLog(naming.id("fl", name), account, region, watches or name, format), **options)

    everything = log("main", ACCOUNT_A, EAST, ANNOUNCEMENT)
    if plain:
        return (everything,)
    if clean:
        return (
            *(log(name, ACCOUNT_A, EAST, RICH) for name in ("main", "ops")),
            *(log(name, ACCOUNT_A, EAST, RICH, interval=600) for name in ("shared", "default-1", "vault")),
            log("hub", ACCOUNT_A, EAST, RICH, key_layout="hourly"),
            log("lab", ACCOUNT_A, EAST, RICH, file_format="parquet"),
            log("regional", ACCOUNT_B, WEST, RICH, key_layout="hive", file_format="parquet"),
            log("default-2", ACCOUNT_B, WEST, RICH, interval=600, key_layout="hive-hourly"),
        )
    noon = 12 * HOUR
    return (
        everything,
        log("main-app-a", ACCOUNT_A, EAST, ALPHABETICAL),
        log("main-app-b", ACCOUNT_A, EAST, DEFAULT, interval=600),
        # One flow log taken over by another, with an hour of both.
        log("shared-old", ACCOUNT_A, EAST, ALPHABETICAL, watches="shared", interval=600, ends=14 * HOUR),
        log("shared-new", ACCOUNT_A, EAST, ANNOUNCEMENT, watches="shared", interval=600, begins=13 * HOUR),
        log("hub", ACCOUNT_A, EAST, RICH, key_layout="hourly"),
        log("regional", ACCOUNT_B, WEST, RICH, key_layout="hive", file_format="parquet"),
        # A change of format is a deletion and a creation: two ids, one after the other.
        log("default-1-old", ACCOUNT_A, EAST, DEFAULT, watches="default-1", interval=600, ends=noon),
        log("default-1-new", ACCOUNT_A, EAST, ALPHABETICAL, watches="default-1", interval=600, begins=noon),
        log("default-2", ACCOUNT_B, WEST, DEFAULT, interval=600, key_layout="hive-hourly"),
        log("ops-half-day", ACCOUNT_A, EAST, ALPHABETICAL, begins=noon),
        log("lab-accept", ACCOUNT_A, EAST, ALPHABETICAL, watches="lab", traffic=ACCEPT, file_format="parquet"),
        log("lab-reject", ACCOUNT_A, EAST, ANNOUNCEMENT, watches="lab", traffic=REJECT),
        log("vault", ACCOUNT_A, EAST, RICH, interval=600),
    )


def coverage(topology: Topology, logs: tuple[FlowLog, ...]) -> Column:
    """Which flow log watches which interface, as a boolean table of flow logs by interfaces."""
    watched = np.zeros((len(logs), len(topology.interfaces)), bool)
    for row, log in enumerate(logs):
        for column, interface in enumerate(topology.interfaces):
            names = (interface.vpc.name, interface.subnet.name if interface.subnet else "", interface.role)
            watched[row, column] = log.watches in names
    return watched


def higher_ranked(logs: tuple[FlowLog, ...], watched: Column) -> Iterator[tuple[int, int]]:
    """Pairs of flow logs that share an interface: the one that yields, the one that is believed."""
    for lower, one in enumerate(logs):
        for higher, other in enumerate(logs):
            if other.rank < one.rank and (watched[lower] & watched[higher]).any():
                yield lower, higher
