# preload: import pyarrow
# preload: import pyarrow.parquet
import io

import pyarrow
import pyarrow.parquet

file = io.BytesIO()
pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2]}), file)
print(pyarrow.parquet.read_table(file).num_rows)
