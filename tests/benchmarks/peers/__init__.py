"""Four tasks, as a good user of each other engine would write them: `python -m tests.benchmarks.peers.NAME TASK SOURCE OUTPUT`.

SOURCE holds the objects of one day below `AWSLogs/`: gzip text with a header line, or Parquet; one log format for all. Only rows whose
`start` lies in that UTC day take part. `-` is NULL. Each task writes Parquet into a folder of its name below OUTPUT.

`a`, a columnar table: every row with every field typed (version, ports, protocol, flags and traffic path INT, packets, bytes, start and end
BIGINT, all else text; names with `_` for `-`), and `start_time`, `end_time` as timestamps; compressed with zstd.

`b`, totals of subnets: `hour` (of start), `subnet_id`, `action`, `bytes`, `packets`, `records`, over rows with log status OK whose
addresses are the packet-level ones. Where they differ, a NAT gateway logged again what the subnet of the host behind it logged already.

`c`, connections: one row for each unordered pair of packet-level ends (address, port) and protocol. `bytes_sent` (initiator to responder),
`bytes_received`, and `packets_` likewise, whatever the verdict, are those of the interface that saw most in that direction, so that no
byte counts twice; `records` counts all rows, `first_start` and `last_end` span them. The initiator is by TCP flags the source of a SYN
without ACK or the destination of a SYN with ACK, where both sorts of rows agree (`by_flags`); else the end with the higher port, and of
equal ports the lesser end.

`d`: all three.

What flowlog does beyond: it checks every value and accounts for every line and byte, splits five-tuples used again, removes overlapping
subscriptions, tells who owns an address, pairs both legs of NAT, and judges verdict and state.
"""
