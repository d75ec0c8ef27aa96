"""Measurements: every workload beside its raw limit. ``python -m tools.bench`` prints the table.

A *workload* (`tools.bench.workloads`) says what is done and how it is timed; *contestants* do it: the raw
limit (`tools.bench.raw`), ours (`tools.bench.ours`), and the peers (`tools.bench.peers`). Each contestant has a
server and a client in processes of their own. In each round every contestant has its turn once, in shuffled
order, so that whatever else the machine does meets them all alike; what counts is the ratio to the limit of
the same run.
"""
