"""The decorator of every compiled function, and the folder that keeps the machine code.

numba recompiles a function when its own file changes. It does not notice changes in other files whose functions or
constants it compiled into that function. So the name of the folder is a digest of the function's file and of every file
of ours that this file imports, directly or not. Stale code is never found.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from tqdm import tqdm

from mtrl.envs.cache import announcement, cache_root, writable_folder

PARTS = {
    "mtrl.agents.": "the agents' kernels",
    "mtrl.envs.metaworld.": "the Meta-World engine",
    "mtrl.envs.minigrid.": "the MiniGrid engine",
}
"""Names that messages give to the modules whose names start so."""

PATIENCE_S = 2.0
"""Seconds of compiling before a message; a single small function takes less."""

PACKAGES = ("llvmlite", "mujoco", "numba", "numpy")
"""Packages whose versions decide which machine code fits."""

_COMMENT = re.compile("#[^\n]*")
_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE
)
_IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n]*)", re.MULTILINE)
_CACHE_DIR_LOCK = threading.Lock()


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile ``function`` at its first call, without the interpreter's lock, and keep the machine code.

    Floats follow IEEE 754, and a division by zero gives infinity or NaN as numpy's does, unless ``options`` of
    ``numba.njit`` say otherwise.
    """
    settings = {"nogil": True, "error_model": "numpy"} | options
    dispatcher = _with_cache(function, lambda on: numba.njit(cache=on, **settings)(function))
    # numba would compile a version for every constant that another kernel passes; one per type halves the first start.
    resolve = getattr(dispatcher, "get_call_template", None)
    if resolve is not None:
        dispatcher.get_call_template = lambda args, kws: resolve(
            tuple(map(numba.types.unliteral, args)), kws
        )
    return dispatcher


def callback(function: Callable[..., Any], signature: Any) -> Any:
    """Compile ``function`` to a C function of that numba ``signature``, at once, or load what is kept."""
    return _with_cache(
        function, lambda on: numba.cfunc(signature, cache=on, error_model="numpy")(function)
    )


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether machine code of an undecorated function is kept from this process or another."""
    source = _source(function)
    return any(code_folder(source).rglob(f"{source.stem}.{function.__name__}-*.nbi"))


def code_folder(source: Path) -> Path:
    """Where machine code of the functions in a file is kept."""
    return cache_root() / "code" / _digest(source)


@cache
def _digest(source: Path) -> str:
    digest = hashlib.sha256(platform.python_version().encode())
    for package in PACKAGES:
        digest.update(f" {package} {_version(package)}".encode())
    for path in sorted(covered(source)):
        digest.update(_file_digest(path))
    return digest.hexdigest()[:16]


@cache
def _file_digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def covered(source: Path) -> set[Path]:
    """Files that can be compiled into a function of file ``source``.

    They are ``source`` and what it imports, directly or not, of mtrl and of the package that ``source`` is in.
    """
    found = {source}
    waiting = [source]
    while waiting:
        fresh = _imported(waiting.pop()) - found
        found |= fresh
        waiting += fresh
    return found


@cache
def _imported(path: Path) -> set[Path]:
    """The files that a file imports itself, of mtrl and of its own package."""
    files = set()
    for module, names in _imports(path):
        file = _find(module, path)
        if file is None:
            continue
        files.add(file)
        if file.name == "__init__.py":  # the names may be modules
            files |= {part for name in names if (part := _find(f"{module}.{name}", path))}
    return files


def _imports(path: Path) -> list[tuple[str, list[str]]]:
    """The full name of each module that a file imports, and the names it takes from there.

    These patterns take a hundredth of the time of parsing. They may find too much, such as an example in a docstring.
    """
    source = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    package = path.parent.relative_to(_import_root(path)).parts
    imports = []
    for dots, module, names in _FROM.findall(source):
        above = package[: len(package) - len(dots) + 1] if dots else ()
        imports.append((".".join((*above, module)).strip("."), re.findall(r"\w+", names)))
    for modules in _IMPORT.findall(source):
        imports += [(module, []) for module in re.findall(r"[\w.]+", modules)]
    return imports


@cache
def _import_root(path: Path) -> Path:
    """The folder that holds the outermost package of a file."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root


def _find(module: str, importer: Path) -> Path | None:
    """The file of a module of mtrl or of the importer's own package."""
    top = module.partition(".")[0]
    root = _import_root(Path(__file__)) if top == "mtrl" else _import_root(importer)
    if top != "mtrl" and root / top not in importer.parents:
        return None
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # MiniGrid needs no mujoco
        return ""


def _source(function: Callable[..., Any]) -> Path:
    return Path(function.__code__.co_filename)


def _with_cache(function: Callable[..., Any], compile_with: Callable[[bool], Any]) -> Any:
    source = _source(function)
    if numba.config.DISABLE_JIT or not source.is_file():
        # A function typed into an interpreter has no file.
        return compile_with(False)
    folder = code_folder(source)
    if not writable_folder(folder):
        return compile_with(False)
    # numba takes the folder from its configuration when it decorates, and two threads may import at the same time.
    with _CACHE_DIR_LOCK:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder)
        try:
            return compile_with(True)
        finally:
            numba.config.CACHE_DIR = before


class _Announcer(event.Listener):
    """Reports on stderr which of our parts is compiling, once per process and only after ``PATIENCE_S``.

    numba calls this listener for every function that it compiles rather than loads, also for those that another one
    calls, and holds a lock meanwhile. So the time is checked many times during an engine's one long compilation.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._part = ""
        self._began = 0.0
        self._spent: dict[str, float] = defaultdict(float)
        self._said: set[str] = set()

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._part = _part(event.data["dispatcher"].py_func.__module__)
            self._began = time.perf_counter()
        self._depth += 1
        if self._part and self._taken() >= PATIENCE_S:
            self._say()

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._spent[self._part] = self._taken()

    def _taken(self) -> float:
        return self._spent[self._part] + time.perf_counter() - self._began

    def _say(self) -> None:
        # Many workers of one program would all say the same.
        if self._part in self._said or parent_process() is not None:
            return
        self._said.add(self._part)
        # Not print, which would write into a progress bar.
        tqdm.write(announcement(f"Compiling {self._part}"), file=sys.stderr)


def _part(module: str | None) -> str:
    """The name of a module for messages; empty for modules that are not ours."""
    for prefix, name in PARTS.items():
        if module is not None and module.startswith(prefix):
            return name
    return ""


event.register("numba:compile", _Announcer())
