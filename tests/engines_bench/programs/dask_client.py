"""The client of dask_nodes.sh."""

import tell
from distributed import Client

if __name__ == "__main__":
    with Client(scheduler_file="scheduler.json") as client:
        client.wait_for_workers(2)
        print(client.gather(client.map(tell.first_line, range(2), pure=False)))
