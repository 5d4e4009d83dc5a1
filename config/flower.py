"""Flower's options, which it reads with --conf: each name here that is one of its options (`--help`) sets it.

`event-router flower` starts it so. What is meant to differ between machines comes from the environment.
https://flower.readthedocs.io/en/latest/config.html
"""

import os
import sys
from pathlib import Path

if "tasks.flower" not in sys.modules:
    sys.exit("Flower shows whatever anybody publishes, unless it is started as `event-router flower`")

_basic = os.environ.get("FLOWER_BASIC_AUTH", "")
# Several are separated by commas; Flower takes each as it is, also one that is empty.
_logins = [[part.strip() for part in each.partition(":")] for each in _basic.split(",")] if _basic else []
_open = os.environ.get("FLOWER_UNAUTHENTICATED_API", "").lower() in {"1", "true", "yes"}
if not all(map(all, _logins)) or not (_logins or os.environ.get("FLOWER_AUTH") or _open):
    # Whoever opens it sees what everybody sends, and could publish tasks.
    sys.exit(
        "environment: FLOWER_BASIC_AUTH: must be user:password, or several with commas between; Flower does not start "
        "without a login "
        "(but with FLOWER_UNAUTHENTICATED_API=true, where everybody who reaches it may see everything)"
    )

#: Its /metrics and /healthcheck answer without a login.
address = os.environ.get("FLOWER_ADDRESS") or "127.0.0.1"
#: Rows outlive a restart: they are written down at the end, and every so often (milliseconds) for the case of a kill.
persistent = True
db = os.environ.get("FLOWER_DB") or "var/flower/rows"
state_save_interval = 30_000
#: Rows that are kept, the newest; it holds all in memory, and stands still while it writes them down.
max_tasks = int(os.environ.get("FLOWER_MAX_TASKS") or 10_000)
#: Workers that ended are forgotten after this many seconds, as in `event-router workers`.
purge_offline_workers = 600
#: Its buttons are meant for tasks, and a row is an event: there is nothing to revoke, terminate or limit.
read_only = os.environ.get("FLOWER_READ_ONLY", "").lower() not in {"0", "false", "no"}
tasks_columns = "name,state,exception,result,received,runtime,uuid,worker"

# Only for us: it names every event of the last days. Reading it runs what is in it, as with any pickle.
_folder = Path(db).absolute().parent
_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
