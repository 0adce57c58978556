"""Connections in the Open Cybersecurity Schema Framework, for tools that read OCSF: `events` makes them, `exporting` runs over a day."""
