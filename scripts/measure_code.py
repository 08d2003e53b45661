"""Sizes of files and functions, hinted functions, imports between folders and tokens per code line, as JSON.

python scripts/measure_code.py
"""

from __future__ import annotations

import ast
import io
import json
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("envs", "agents", "mtrl")
LAYOUT = (
    *(tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.COMMENT, tokenize.ENCODING, tokenize.ENDMARKER),
)


def sources(folder: Path) -> list[Path]:
    """Python files below ``folder``, those behind links left out."""
    linked = [path for path in folder.iterdir() if path.is_symlink()]
    return sorted(
        path
        for path in folder.rglob("*.py")
        if not any(path.is_relative_to(link) for link in linked)
    )


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The modules of ours that a file imports, as ``envs.specs``; of ``from M import N`` both M and M.N may be modules.

    Args:
        top_level_only: leave out imports inside functions and those for type checkers, which run no code at import.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mtrl":
            module = str(node.module)
            for alias in node.names:
                yield _module(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mtrl":
                    yield alias.name


def _module(package: str, name: str) -> str:
    """``package.name`` where that is a module, else ``package``."""
    place = ROOT / Path(*f"{package}.{name}".split("."))
    return (
        f"{package}.{name}" if place.with_suffix(".py").is_file() or place.is_dir() else package
    )


def room(module: str) -> str:
    """The folder that a module belongs to: ``envs``, ``agents`` or ``mtrl``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else "mtrl"


def density(paths: list[Path]) -> float:
    """Tokens per line that holds code; docstrings are no code."""
    tokens = lines = 0
    for path in paths:
        source = path.read_text(encoding="utf-8")
        code: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            is_docstring = token.type == tokenize.STRING and token.line.strip().startswith(
                ('"""', 'r"""')
            )
            if token.type in LAYOUT or is_docstring:
                continue
            tokens += 1
            code.add(token.start[0])
        lines += len(code)
    return tokens / max(lines, 1)


def describe(folder: str) -> dict[str, Any]:
    """Sizes, densities and imports of one folder."""
    paths = sources(ROOT / folder)
    files = [path.read_text(encoding="utf-8").count("\n") for path in paths]
    functions = []
    hinted = 0
    edges: Counter[str] = Counter()
    for path in paths:
        edges.update(f"{folder} -> {room(module)}" for module in imports(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
                hinted += node.returns is not None
    return {
        "files": len(files),
        "file_lines": _spread(files),
        "functions": len(functions),
        "function_lines": _spread(functions),
        "hinted": round(hinted / max(len(functions), 1), 3),
        "imports": dict(sorted(edges.items())),
        "tokens_per_code_line": round(density(paths), 2),
    }


def _spread(sizes: list[int]) -> dict[str, float]:
    deciles = statistics.quantiles(sizes, n=10)
    return {"median": statistics.median(sizes), "p90": deciles[-1], "largest": max(sizes)}


if __name__ == "__main__":
    print(json.dumps({folder: describe(folder) for folder in FOLDERS}, indent=1))
