import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table
from tqdm import tqdm

for _ in tqdm(range(3), bar_format="{desc}{n_fmt}/{total_fmt}|{bar:10}|", desc="steps"):
    pass
for _ in track(range(3), show_speed=False):
    pass
table = Table("what", "value")
table.add_row("streams", f"{sys.stdout.isatty()} {sys.stderr.isatty()}")
Console().print(table)
try:
    1 / 0  # noqa: B018
except ZeroDivisionError:
    Console(width=100).print_exception()
