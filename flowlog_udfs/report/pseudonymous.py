"""A report's document as it may leave the house: every name in it replaced by its pseudonym. In: a document and a key. Out: a document.

What a text names is said by `holds` in `report-1.schema.json`:

    account, resource, address, person, digest    one value, replaced whole
    end                                           an address with a port
    expected                                      an account, VPC or interface, as `kind` beside it says; a Region stays
    object                                        the key of an object: replaced whole, for it holds an account and a folder's name
    text                                          a sentence: what in it has the form of a name, or is a name elsewhere, is replaced
    private                                       words that people wrote freely: left out
    words                                         flowlog's own, and names of Regions: stay

Unkeyed hashes are replaced too (`digest`): whoever knows all but one value that went into one can search for it. Lists are put in order
anew: the order of the originals tells where in a range each one lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from flowlog_udfs.policy.model import SEVERITIES
from flowlog_udfs.pseudonyms import Pseudonyms
from flowlog_udfs.report.schema import report_schema

LEFT_OUT = "left out"
_NAMES = ("account", "resource", "address", "object")
_FIXED = ("enum", "const")
Schema = Mapping[str, Any]
Visit = Callable[[str, str, Mapping[str, Any]], str]
"""Of what a text holds, the text, and the object that it stands in, what is to stand there."""


def pseudonymous(document: Mapping[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """The document under pseudonyms, which keeps to the same schema; `pseudonyms` in it names the key."""
    known: set[str] = set()

    def note(holds: str, text: str, around: Mapping[str, Any]) -> str:
        if holds in _NAMES or (holds == "expected" and around["kind"] != "region"):
            known.add(text)
        return text

    def replace(holds: str, text: str, around: Mapping[str, Any]) -> str:
        if holds == "end":
            return _end(text, pseudonyms)
        if holds == "expected":
            return text if around["kind"] == "region" else _BY_KIND.get(around["kind"], Pseudonyms.resource)(pseudonyms, text)
        return pseudonyms.text(text, known) if holds == "text" else _REPLACED[holds](pseudonyms, text)

    schema = report_schema()
    _walk(document, schema, document, note)
    made: dict[str, Any] = _walk(document, schema, document, replace)
    return made | {"pseudonyms": pseudonyms.name}


_REPLACED: dict[str, Callable[[Pseudonyms, str], str]] = {
    "account": Pseudonyms.account,
    "resource": Pseudonyms.resource,
    "address": Pseudonyms.address,
    "person": Pseudonyms.person,
    "digest": Pseudonyms.digest,
    "object": lambda pseudonyms, key: pseudonyms.resource(f"object {key}"),
    "private": lambda pseudonyms, text: LEFT_OUT,
    "words": lambda pseudonyms, text: text,
}
_BY_KIND = {"account": Pseudonyms.account}


def _walk(value: Any, schema: Schema, around: Mapping[str, Any], visit: Visit, name: str = "") -> Any:
    """A value with each of its texts visited; raises `KeyError` for one of which the schema does not say what it holds."""
    if "anyOf" in schema and value is not None:
        (schema,) = (one for one in schema["anyOf"] if one["type"] != "null")
    if isinstance(value, dict):
        properties, keys = schema.get("properties", {}), schema.get("propertyNames")
        return {
            visit(keys["holds"], key, value) if keys else key: _walk(
                one, properties[key] if key in properties else schema["additionalProperties"], value, visit, key
            )
            for key, one in value.items()
        }
    if isinstance(value, list):
        found = [_walk(one, schema["items"], around, visit) for one in value]
        return sorted(found, key=_ORDERS[name]) if name in _ORDERS else found
    if not isinstance(value, str) or any(word in schema for word in _FIXED):
        return value
    return value if "holds" not in schema and schema["pattern"].startswith(r"^\d{4}-") else visit(schema["holds"], value, around)


def _end(text: str, pseudonyms: Pseudonyms) -> str:
    """`10.0.0.1:443`, `[2001:db8::1]:443`, or either without its port."""
    address, port = text, ""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
    elif ":" in text:
        address, _, digits = text.partition(":")
        port = f":{digits}"
    return f"[{pseudonyms.address(address)}]{port}"


def _by(*names: str) -> Callable[[Any], Any]:
    return lambda one: tuple(str(one[name]) for name in names)


def _largest(measures: Sequence[str], *names: str) -> Callable[[Any], Any]:
    return lambda one: (-sum(one[name] for name in measures), *_by(*names)(one))


_ORDERS: dict[str, Callable[[Any], Any]] = {
    "accounts": str,
    "flow_logs": _by("account_id", "region", "flow_log_id"),
    "expected": _by("kind", "id"),
    "silent": lambda one: (_seconds(one["start"]) - _seconds(one["end"]), *_by("interface_id", "flow_log_id", "start")(one)),
    "new_findings": str,
    "gone_findings": _by("rule", "subject"),
    "vpcs": _by("account_id", "vpc_id"),
    "findings": lambda one: (SEVERITIES.index(one["severity"]), *_by("rule", "subject", "finding_id")(one)),
    "examples": _by("first_start", "initiator", "responder"),
    "subnets": _largest(("bytes_in", "bytes_out"), "subnet_id", "vpc_id"),
    "transit_only": _largest(("bytes",), "subnet_id", "vpc_id", "region", "account_id"),
    "talkers": _largest(("bytes_sent", "bytes_received"), "initiator_addr", "vpc_id", "instance_id"),
    "nat": _by("nat_kind", "nat_addr", "nat_interface_id"),
    "inside": _largest(("bytes_out", "bytes_in"), "inside_addr"),
    "top": _largest(("connections",), "initiator_addr"),
    "failed": _by("key"),
}
"""The order of each list in which names, other than times and amounts, would tell of their originals."""


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").timestamp()
