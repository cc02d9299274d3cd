# preload: import torch
import io

import torch

file = io.BytesIO()
torch.save({"x": torch.ones(3)}, file)
file.seek(0)
print(torch.load(file)["x"].sum())
