"""Makes a C library to link the engine with: what this machine's has, as glibc 2.28 had it.

A symbol of glibc has a version, `pthread_create@GLIBC_2.34`, and the linker writes the newest one
into what it links. So an engine that was linked here would not load where the C library is older.
glibc keeps the older versions too, for programs of old: `pthread_create@GLIBC_2.2.5`. Of each
symbol this stub has the newest version that is no newer than 2.28, which RHEL 8 and all that is
younger have. It has no code, for the linker looks at names only. The engine then needs no newer
glibc than that, whatever it was built on. What 2.28 has not under any version, newer_calls.cc has.

All are said to be in libc.so.6. Before 2.34 some were in libpthread.so.0 and libdl.so.2. The loader
finds them there, because it looks for name and version, not for the file, and because every Python
has loaded both.

Usage: libc_stub.py COMPILER READELF VERSION OUTPUT
"""

import re
import subprocess
import sys
from pathlib import Path

# Number, value, size, type, binding, visibility, section, name and version.
ROW = re.compile(
    r"\s*\d+: \w+ +\S+ (FUNC|IFUNC|OBJECT|NOTYPE) +\S+ +\S+ +\d+ (\S+?)@@?GLIBC_([\d.]+)\s"
)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def symbols(table: str, newest: str) -> dict[str, tuple[str, str]]:
    """Of readelf's table, each name's kind, and its version: the newest up to `newest`."""
    found: dict[str, tuple[str, str]] = {}
    for kind, name, version in ROW.findall(table):
        if numbers(version) > numbers(newest):
            continue
        if name not in found or numbers(found[name][1]) < numbers(version):
            found[name] = (kind, version)
    return found


def assembly(found: dict[str, tuple[str, str]]) -> str:
    lines = []
    for i, (name, (kind, version)) in enumerate(sorted(found.items())):
        what = "object" if kind == "OBJECT" else "function"
        lines += [f".globl s{i}", f".type s{i}, @{what}", f"s{i}: .byte 0"]
        lines.append(f".symver s{i}, {name}@@@GLIBC_{version}")
    return "\n".join([".data", *lines, '.section .note.GNU-stack, "", @progbits', ""])


def main(compiler: str, readelf: str, newest: str, output: str) -> None:
    def run(*command: str) -> str:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    libc = run(compiler, "-print-file-name=libc.so.6").strip()
    found = symbols(run(readelf, "-W", "--dyn-syms", libc), newest)
    versions = sorted({version for _, version in found.values()}, key=numbers)
    source, script = Path(output).with_suffix(".s"), Path(output).with_suffix(".map")
    source.write_text(assembly(found))
    script.write_text("".join(f"GLIBC_{version} {{ }};\n" for version in versions))
    link = ["-shared", "-nostdlib", "-Wl,-soname,libc.so.6", f"-Wl,--version-script={script}"]
    run(compiler, *link, "-o", output, str(source))


if __name__ == "__main__":
    main(*sys.argv[1:])
