"""What bench/run consists of. The standard library only: this process is the parent of all that is measured, and a child's
peak memory is never reported as less than its parent's, so it stays small.

In the order of a run: `machine` (where things are, what this machine is), `install` (parts, peers, our binaries), `process`
(run and measure), `services` (Kafka, MinIO), `session` (what one run of the benchmarks shares), then one module for each
benchmark, and `report`.
"""
