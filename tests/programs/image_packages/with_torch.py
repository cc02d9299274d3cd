# varies: OMP_NUM_THREADS=1: print(torch.get_num_threads(), torch.__config__.parallel_info())
# varies: ATEN_CPU_CAPABILITY=default: print(torch.backends.cpu.get_cpu_capability())
# draws: print(torch.rand(2).tolist())
# draws: loader = torch.utils.data.DataLoader(range(10**6), batch_size=4, shuffle=True)
# draws: print(next(iter(loader)))
# preload: import torch, torch.utils.data
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 8))
optimizer = torch.optim.AdamW(model.parameters())
x, y = torch.rand(256, 64), torch.randint(8, (256,))
for _ in range(5):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(loss.item())
print(torch.jit.trace(model, x)(x).sum().item(), torch.get_num_threads())
print(torch.linalg.svdvals(x).sum().item(), torch.fft.fft(x).abs().sum().item())
loader = torch.utils.data.DataLoader(list(range(8)), batch_size=2, num_workers=2, shuffle=True)
print([b.tolist() for b in loader])
torch.save(model.state_dict(), "/dev/null")
