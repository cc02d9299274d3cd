"""Dask's LocalCluster: the scheduler is in this process, a nanny for each worker as well."""

import tell
from distributed import Client, LocalCluster

if __name__ == "__main__":
    tell.for_workers()
    tell.submitted()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        print(client.gather(client.map(tell.first_line, range(2), pure=False)))
