# preload: import torch
# preload: import torch._dynamo
import torch

model = torch.nn.Linear(3, 1)
step = torch.optim.AdamW(model.parameters())
model(torch.ones(2, 3)).sum().backward()
step.step()
print(len(step.state))
