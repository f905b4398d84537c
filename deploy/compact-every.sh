#!/bin/sh
# compact-every SECONDS: compacts the lake at once and then every so many seconds, until it is told to stop. A run that
# fails is shown and tried again at the next turn; it takes away the file that the health check looks for.
set -u
good=/tmp/last-compaction-was-good
running=
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; wait; exit 0' TERM INT

while :; do
    olap compact &
    running=$!
    if wait "$running"; then touch "$good"; else rm -f "$good"; fi
    # In the background, so that a stop does not have to wait for it.
    sleep "$1" &
    running=$!
    wait "$running"
done
