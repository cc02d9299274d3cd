import sys

import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor(index * index)


if __name__ == "__main__":
    for context in sys.argv[1:]:
        loader = DataLoader(Squares(), 4, num_workers=2, multiprocessing_context=context)
        print(context, [batch.tolist() for batch in loader])
