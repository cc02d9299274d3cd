# varies: DASK_OWN__PART=3: print(dask.config.get("own.part", None))
# draws: print(distributed.client.Future._uid)
# draws: import uuid; print(uuid.uuid1(), dask.delayed(print)().key)
# preload: import dask, dask.array, dask.bag, distributed
import dask
import dask.array as da
from dask.distributed import Client, LocalCluster

if __name__ == "__main__":
    with (
        LocalCluster(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
        ) as c,
        Client(c) as client,
    ):
        print(client.submit(lambda x: x + 1, 41).result(), client.gather(client.map(abs, [-1, 2])))
        print(da.arange(10**5, chunks=10**4).sum().compute())
    print(da.ones((1000, 1000), chunks=100).mean().compute(scheduler="threads"))
    print(dask.delayed(sum)([1, 2, 3]).compute(scheduler="sync"))
