"""The sample's places as EC2 describes them, so that an inventory can be read from a file as from the API."""

from __future__ import annotations

from datetime import date
from typing import Any

from flowlog_udfs.fields import NO_VALUE
from flowlog_udfs.sample.layout import FlowLog
from flowlog_udfs.sample.topology import ENDPOINT, NAT, NLB, REGIONAL_NAT, TGW, Interface, Topology

_TYPES = {NAT: "nat_gateway", TGW: "transit_gateway", NLB: "network_load_balancer", ENDPOINT: "vpc_endpoint"}
_MAKERS = {"alb": "amazon-elb", "lambda": "awslambda", "db": "amazon-rds", **dict.fromkeys(("nat", "hub-nat"), "amazon-aws")}


def inventory(topology: Topology, logs: tuple[FlowLog, ...], day: date) -> dict[str, Any]:
    """A snapshot taken at noon of a day, in the shape that `flowlog_udfs.inventory` documents."""
    real = [(index, interface) for index, interface in enumerate(topology.interfaces) if interface.subnet]
    regional = [interface for interface in topology.interfaces if interface.kind == REGIONAL_NAT]
    # A flow log watches an interface, a subnet or a VPC; some subnets and roles are named like their VPC, which then is meant.
    watched = {interface.role: interface.id for _, interface in real} | {subnet.name: subnet.id for subnet in topology.subnets}
    watched |= {vpc.name: vpc.id for vpc in topology.vpcs}
    return {
        "TakenAt": f"{day}T12:00:00Z",
        "Vpcs": [
            {
                "VpcId": vpc.id,
                "CidrBlock": vpc.cidr,
                "CidrBlockAssociationSet": [{"CidrBlock": vpc.cidr}],
                "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": vpc.ipv6_cidr}] if vpc.ipv6_cidr else [],
                "OwnerId": vpc.account,
                "Region": vpc.region,
                "Tags": [{"Key": "Name", "Value": vpc.name}],
            }
            for vpc in topology.vpcs
        ],
        "Subnets": [
            {
                "SubnetId": subnet.id,
                "VpcId": subnet.vpc.id,
                "CidrBlock": subnet.cidr,
                "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": subnet.ipv6_cidr}] if subnet.ipv6_cidr else [],
                "AvailabilityZoneId": subnet.az_id,
                "OwnerId": subnet.vpc.account,
                "Region": subnet.vpc.region,
                "Tags": [{"Key": key, "Value": value} for key, value in (("Name", subnet.name), *subnet.tags)],
            }
            for subnet in topology.subnets
        ],
        "NetworkInterfaces": [_interface(topology, index, interface) for index, interface in real],
        "NatGateways": [
            *(_gateway(interface.id.replace("eni", "nat"), [interface]) for _, interface in real if interface.kind == NAT),
            *(
                _gateway(gateway, [interface for interface in regional if interface.fields["resource-id"] == gateway])
                for gateway in sorted({interface.fields["resource-id"] for interface in regional})
            ),
        ],
        "Addresses": [
            {"PublicIp": interface.public_address, "PrivateIpAddress": interface.address, "NetworkInterfaceId": interface.id}
            for _, interface in real
            if interface.public_address
        ]
        + [{"PublicIp": interface.address} for interface in regional],
        "VpcPeeringConnections": [
            {
                "VpcPeeringConnectionId": f"pcx-{other[4:]}",
                "RequesterVpcInfo": {"VpcId": one},
                "AccepterVpcInfo": {"VpcId": other},
                "Status": {"Code": "active"},
            }
            for one, other in topology.peerings
        ],
        "TransitGatewayVpcAttachments": [
            {
                "TransitGatewayAttachmentId": f"tgw-attach-{vpc[4:]}",
                "TransitGatewayId": topology.transit_gateway,
                "VpcId": vpc,
                "State": "available",
            }
            for vpc in topology.attached
        ],
        "FlowLogs": [
            {
                "FlowLogId": log.id,
                "ResourceId": watched[log.watches],
                "LogFormat": " ".join(f"${{{name}}}" for name in log.format),
                "TrafficType": log.traffic,
                "MaxAggregationInterval": log.interval,
                "DestinationOptions": {
                    "FileFormat": {"text": "plain-text", "parquet": "parquet"}[log.file_format],
                    "HiveCompatiblePartitions": log.key_layout.startswith("hive"),
                    "PerHourPartition": log.key_layout.endswith("hourly"),
                },
            }
            for log in logs
        ],
    }


def _interface(topology: Topology, index: int, interface: Interface) -> dict[str, Any]:
    pods = topology.pods["address"][topology.pods["interface"] == index].tolist()
    addresses = [interface.address, *(".".join(str(pod >> shift & 255) for shift in (24, 16, 8, 0)) for pod in pods)]
    requester_managed = interface.instance_id == NO_VALUE
    return {
        "NetworkInterfaceId": interface.id,
        "InterfaceType": _TYPES.get(interface.kind, "lambda" if interface.role == "lambda" else "interface"),
        "SubnetId": interface.subnet.id if interface.subnet else None,
        "VpcId": interface.vpc.id,
        "OwnerId": interface.vpc.account,
        "RequesterManaged": requester_managed,
        "RequesterId": _MAKERS.get(interface.role, "amazon-aws") if requester_managed else None,
        "Attachment": None if requester_managed else {"InstanceId": interface.instance_id},
        "PrivateIpAddress": interface.address,
        "PrivateIpAddresses": [{"PrivateIpAddress": text, "Primary": text == interface.address} for text in addresses],
        "Ipv6Addresses": [{"Ipv6Address": interface.ipv6}] if interface.ipv6 else [],
        "Association": {"PublicIp": interface.public_address} if interface.public_address else None,
    }


def _gateway(id: str, interfaces: list[Interface]) -> dict[str, Any]:
    first = interfaces[0]
    return {
        "NatGatewayId": id,
        "VpcId": first.vpc.id,
        "SubnetId": first.subnet.id if first.subnet else None,
        "State": "available",
        "AvailabilityMode": "zonal" if first.subnet else "regional",
        "NatGatewayAddresses": [
            {"PublicIp": interface.public_address, "PrivateIp": interface.address, "NetworkInterfaceId": interface.id}
            if interface.subnet
            else {"PublicIp": interface.address}
            for interface in interfaces
        ],
    }
