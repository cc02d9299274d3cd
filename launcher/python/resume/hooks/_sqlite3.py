# Versions: cpython==3.10,3.11,3.12,3.13,3.14,3.15
"""SQLite's generator, of which `random()` comes.

It seeds itself at the first use. That another process uses it, it sees only where it opens a file
(unixOpen in src/os_unix.c): not with a database in memory, nor where process numbers repeat.
"""


def prepare():
    # sqlite3_randomness(0, NULL) forgets the seed (src/random.c).
    for library in ("libsqlite3.so.0", module.__file__):  # noqa: F821 - given by resume.py
        reset_library(library, "sqlite3_randomness")  # noqa: F821
