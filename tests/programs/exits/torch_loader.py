# preload: import torch
# preload: import torch.utils.data
import torch
import torch.utils.data

data = torch.utils.data.TensorDataset(torch.arange(8.0))
if __name__ == "__main__":
    for (batch,) in torch.utils.data.DataLoader(data, batch_size=4, num_workers=1):
        print(batch.sum())
