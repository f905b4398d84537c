"""Opens a Delta table as deltalake does; prints its version and the seconds from the call to the list of its files."""

import json
import os
import sys
import time

from deltalake import DeltaTable

options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
started = time.perf_counter()
table = DeltaTable(sys.argv[1], storage_options=options)
files = table.file_uris()
seconds = time.perf_counter() - started
print(json.dumps({"version": table.version(), "files": len(files), "seconds": seconds}))
