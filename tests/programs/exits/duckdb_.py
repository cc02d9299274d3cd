# preload: import duckdb
import duckdb

print(duckdb.sql("select 1 + 1").fetchone())
