"""Sample flow logs with known truth: a request in, a dated tree of objects and the tables of what a reader must find in them out.

Whole connections are drawn first; what every interface on their way logs of them follows, cut into aggregation windows and delivered as
AWS delivers. So the truth does not depend on any code that reads flow logs. The same request gives the same bytes, in memory of about
500 bytes a record.

    topology -> layout -> traffic -> ordinary, translated, odd, violations -> observation, status -> rows -> faults -> delivery -> truth,
    planted; beside the objects: inventory, policy
"""

from __future__ import annotations

from flowlog_udfs.sample.day import FORMATS, PROFILES, SampleRequest, SampleSummary, make_sample

__all__ = ["FORMATS", "PROFILES", "SampleRequest", "SampleSummary", "make_sample"]
