# draws: print(polars.Series(range(10**6)).sample(3).to_list())
# preload: import polars
import polars as pl

frame = pl.DataFrame({"k": [i % 7 for i in range(10000)], "v": list(range(10000))})
print(frame.group_by("k").agg(pl.col("v").sum(), pl.col("v").mean().alias("m")).sort("k"))
print(frame.lazy().filter(pl.col("v") % 3 == 0).with_columns(w=pl.col("v") ** 2).collect().sum())
print(frame.join(frame, on="v").height, pl.thread_pool_size())
print(pl.read_csv(frame.write_csv().encode()).equals(frame))
