"""One of the ranks that torchrun or accelerate starts: a sum over all of them, by gloo."""

import tell

tell.first_line()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
if dist.get_rank() == 0:
    print(dist.get_world_size(), total.item())
dist.destroy_process_group()
