"""Write the generated parts of docs/: tables from their schemas, rules from the built-in policy. `--check` only says what is old."""

import sys
from pathlib import Path

from flowlog_udfs.catalog import TABLES, sql_type
from flowlog_udfs.policy.loading import load_policy

BEGIN, END = "<!-- generated: make docs -->", "<!-- end -->"


def tables() -> str:
    """Each table with its columns."""
    pages = []
    for entry in TABLES:
        rows = [f"| `{column.name}` | {sql_type(column.type)} | {entry.columns[column.name]} |" for column in entry.schema]
        pages.append(
            "\n".join(
                [f"## {entry.table.name}", "", f"One row for each {entry.row}.", "", "| column | type | meaning |", "|---|---|---|", *rows]
            )
        )
    return "\n\n".join(pages)


def rules() -> str:
    """The rules of the built-in policy in their order."""
    rows = [f"| `{rule.id}` | {rule.title} | {rule.severity} | {', '.join(rule.controls)} |" for rule in load_policy(None).rules]
    blind = [f"- `{rule.id}`: {' '.join(rule.blind_spots)}" for rule in load_policy(None).rules if rule.blind_spots]
    head = ["| rule | finds | severity | controls |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", "What each of them cannot see:", "", *blind])


if __name__ == "__main__":
    old = []
    for name, made in {"tables.md": tables(), "policy.md": rules()}.items():
        page = Path("docs", name)
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        text = f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}"
        if text != page.read_text(encoding="utf-8"):
            old.append(str(page))
            if "--check" not in sys.argv:
                page.write_text(text, encoding="utf-8")
    if old and "--check" in sys.argv:
        sys.exit(f"{', '.join(old)}: old; run make docs")
