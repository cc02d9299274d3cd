# preload: import polars
import polars

print(polars.DataFrame({"a": [1, 2]}).select(polars.col("a").sum()).item())
