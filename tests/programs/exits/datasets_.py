# preload: import datasets
import datasets

print(datasets.Dataset.from_dict({"a": [1, 2]}).map(lambda row: {"b": row["a"] + 1})["b"])
