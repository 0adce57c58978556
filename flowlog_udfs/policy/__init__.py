"""The compliance policy: rules as data, and what they find in a day's tables.

model <- loading      policy.toml to frozen rows
segments -> matching  connections that a rule is about, one row for each subject and peer
spreading             scans and sweeps: one initiator, many ports or hosts
trends                transfers and peers against the days before
gaps                  what the flow logs themselves left out
findings              all of these as rows of table `findings`, exceptions applied
assessments           pass, fail or not assessed, for each rule and VPC
"""
