# preload: import torch
# preload: import torch._dynamo
import torch


@torch.compile(backend="eager")
def double(x):
    return x + x


print(double(torch.ones(2)))
