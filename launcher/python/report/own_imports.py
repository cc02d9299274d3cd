"""The import statements of the program's own files, as their sources say."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .journal import LOADED, Journal


def of_program(log: Journal) -> Iterator[tuple[str, str]]:
    """(module, "") for `import module`, (module, name) for each name of `from module import name`.

    In the order of the sources; relative imports, which can only name own modules, are left out.
    """
    if log.command:
        yield from _of_source(log.command)
    files = [log.main_file, f"{log.main_file}/__main__.py"]
    files += [e.origin for e in log.events if e.own and e.body and e.outcome == LOADED]
    for file in dict.fromkeys(files):
        if file.endswith(".py"):
            try:
                with open(file, "rb") as source:
                    yield from _of_source(source.read())
            except OSError:
                continue


def _of_source(source: str | bytes) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    collector = _Collector()
    collector.visit(tree)
    yield from collector.found


class _Collector(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def visit_If(self, node: ast.If) -> None:
        test = node.test.attr if isinstance(node.test, ast.Attribute) else node.test
        name = test.id if isinstance(test, ast.Name) else test
        if name == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [(alias.name, "") for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module:
            self.found += [(node.module, alias.name) for alias in node.names]
