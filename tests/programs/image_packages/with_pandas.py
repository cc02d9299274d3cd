# varies: OMP_NUM_THREADS=1: print(pyarrow.cpu_count())
# varies: ARROW_IO_THREADS=3: print(pyarrow.io_thread_count())
# varies: ARROW_DEFAULT_MEMORY_POOL=system: print(pyarrow.default_memory_pool().backend_name)
# varies: ARROW_USER_SIMD_LEVEL=NONE: print(pyarrow.runtime_info().simd_level)
# draws: print(pandas.Series(range(10**6)).sample(2).tolist())
# draws: print(pyarrow.compute.random(2).tolist())
# preload: import numpy, pandas, pyarrow, pyarrow.compute, pyarrow.parquet, pyarrow.dataset
import io
import tempfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

frame = pd.DataFrame(
    {"k": np.arange(1000) % 7, "v": np.arange(1000.0), "s": [f"text {i % 13}" for i in range(1000)]}
)
print(frame.groupby("k").agg({"v": ["sum", "mean"], "s": "nunique"}))
print(frame.merge(frame, on="v").describe())
print(pd.date_range("2024-03-01", periods=3, tz="Europe/Berlin"))
print(frame.to_json(orient="records")[:80], len(frame.to_csv()))
with tempfile.TemporaryDirectory() as folder:
    frame.to_parquet(f"{folder}/a.parquet", engine="pyarrow", compression="zstd")
    print(pd.read_parquet(f"{folder}/a.parquet").equals(frame))
    pq.write_to_dataset(pa.Table.from_pandas(frame), f"{folder}/d", partition_cols=["k"])
    table = pa.dataset.dataset(f"{folder}/d", partitioning="hive").to_table(use_threads=True)
    print(table.num_rows, pa.compute.sum(table["v"]))
print(pa.csv.read_csv(io.BytesIO(frame.to_csv().encode())).schema)
print(pa.table(frame).group_by("k").aggregate([("v", "sum")]).sort_by("k").to_pydict())
print(pa.cpu_count(), pa.io_thread_count(), pa.total_allocated_bytes() > 0)
