"""The controls that rules serve, and which of them were read in the standard's own text.

NIST SP 800-53 revision 5 is public and was read. PCI DSS 4.0.1 is given out under a licence: its numbers are taken from what others
restate, and a report marks them so.
"""

from __future__ import annotations

from collections.abc import Mapping

NIST, PCI = "NIST 800-53", "PCI DSS 4.0.1"
CONTROLS: Mapping[str, str] = {
    f"{NIST} AU-5": "Response to audit logging process failures",
    f"{NIST} AU-6": "Audit record review, analysis, and reporting",
    f"{NIST} AU-9": "Protection of audit information",
    f"{NIST} AU-11": "Audit record retention",
    f"{NIST} AU-12": "Audit record generation",
    f"{NIST} CA-7": "Continuous monitoring",
    f"{NIST} SC-7": "Boundary protection",
    f"{NIST} SI-4": "System monitoring",
    f"{PCI} 1.2.5": "Services, protocols and ports that are allowed are identified, approved, and needed",
    f"{PCI} 1.2.6": "Insecure services, protocols and ports in use have mitigations",
    f"{PCI} 1.3": "Network access to and from the cardholder data environment is restricted",
    f"{PCI} 1.4": "Connections between trusted and untrusted networks are controlled",
    f"{PCI} 10.4.1": "Audit logs are reviewed at least daily",
    f"{PCI} 10.4.1.1": "Automated mechanisms perform the reviews",
    f"{PCI} 10.4.3": "Exceptions and anomalies found in reviews are addressed",
    f"{PCI} 10.5.1": "Audit log history is kept for 12 months, three of them at hand",
    f"{PCI} 10.7.2": "Failures of critical security controls are detected and addressed promptly",
}
"""Controls by id, each with what it is about in our words."""


def is_checked(control: str) -> bool:
    """Whether the control was read in the standard's own text."""
    return control.startswith(NIST) and control in CONTROLS
