"""How the engine compiles: one decorator, one cache, and the few instructions that reach memory by address.

Compiled code never holds an address: those of libmujoco, of models and of data are passed in as integers on every call,
so that code cached on disk stays valid from one process to the next.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import mujoco
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mtrl.envs.metaworld.store import cache_root, writable_folder

PACKAGE = Path(__file__).parent
# IEEE semantics, no exceptions from a division by zero: what numpy scalars do.
OPTIONS = {"error_model": "numpy", "fastmath": False}


@cache
def _core_digest() -> str:
    """Digest of all that can be compiled into any function: the shared sources and the tools' versions."""
    digest = hashlib.sha256()
    for version in (numba.__version__, llvmlite.__version__, mujoco.__version__, platform.python_version()):
        digest.update(version.encode())
    for path in sorted(PACKAGE.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _code_folder(source: str) -> Path:
    # numba notices a change of the function's own file only, not of the helpers compiled into it; hence the digest.
    digest = hashlib.sha256(_core_digest().encode() + Path(source).read_bytes()).hexdigest()
    return cache_root() / "code" / digest[:16]


def is_compiled(function: Callable) -> bool:
    """Whether an undecorated function was compiled before, in this process or another."""
    source = function.__code__.co_filename
    return any(_code_folder(source).rglob(f"{Path(source).stem}.{function.__name__}-*.nbi"))


def _with_cache(function: Callable, compile_with: Callable[[bool], Any]) -> Any:
    folder = _code_folder(function.__code__.co_filename)
    if not writable_folder(folder):
        return compile_with(False)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return compile_with(True)
    finally:
        numba.config.CACHE_DIR = before


def kernel(function: Callable) -> Any:
    """Decorator of every function that compiled code calls. Compiles at the first call, without the GIL."""
    return _with_cache(function, lambda on: numba.njit(cache=on, nogil=True, **OPTIONS)(function))


REWARD_SIGNATURE = types.void(
    types.CPointer(types.float64),
    types.CPointer(types.float64),
    types.float64,
    types.CPointer(types.float64),
    types.CPointer(types.float64),
)


@cache
def compiled_reward(function: Callable) -> Any:
    """The C callback of a task's reward function; compiled here (or read from the cache), once a process."""
    return _with_cache(function, lambda on: numba.cfunc(REWARD_SIGNATURE, cache=on, **OPTIONS)(function))


def _pointer(builder: Any, address: Any, index: Any, element: ir.Type) -> Any:
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index])


def _loader(result: types.Type, element: ir.Type) -> Any:
    @intrinsic
    def load(typingctx, address, index):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
            value = builder.load(_pointer(builder, args[0], args[1], element))
            return builder.sext(value, ir.IntType(64)) if element == ir.IntType(32) else value

        return result(types.int64, types.int64), code

    return load


load_f64 = _loader(types.float64, ir.DoubleType())
load_i64 = _loader(types.int64, ir.IntType(64))
load_i32 = _loader(types.int64, ir.IntType(32))


@intrinsic
def store_f64(typingctx, address, index, value):  # type: ignore[no-untyped-def]
    """``((double*)address)[index] = value``"""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        builder.store(args[2], _pointer(builder, args[0], args[1], ir.DoubleType()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float64), code


@intrinsic
def store_i64(typingctx, address, index, value):  # type: ignore[no-untyped-def]
    """``((int64*)address)[index] = value``"""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        builder.store(args[2], _pointer(builder, args[0], args[1], ir.IntType(64)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


@intrinsic
def store_i32(typingctx, address, index, value):  # type: ignore[no-untyped-def]
    """``((int*)address)[index] = value``"""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value = builder.trunc(args[2], ir.IntType(32))
        builder.store(value, _pointer(builder, args[0], args[1], ir.IntType(32)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


def _caller(arguments: tuple[types.Type, ...], returns_int: bool = False) -> Any:
    """An instruction that calls the C function at an address; addresses among the arguments are integers."""

    def code(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kinds = [ir.DoubleType() if kind == types.float64 else ir.IntType(64) for kind in arguments]
        result = ir.IntType(32) if returns_int else ir.VoidType()
        target = ir.FunctionType(result, kinds).as_pointer()
        value = builder.call(builder.inttoptr(args[0], target), args[1:])
        return builder.sext(value, ir.IntType(64)) if returns_int else context.get_dummy_value()

    return (types.int64 if returns_int else types.void)(types.int64, *arguments), code


@intrinsic
def call_two(typingctx, function, first, second):  # type: ignore[no-untyped-def]
    """``function(first, second)`` for two pointers; a C function of one pointer ignores the second."""
    return _caller((types.int64, types.int64))


@intrinsic
def call_reward(typingctx, function, world, init, effort, obs, out):  # type: ignore[no-untyped-def]
    """``function(world, init, effort, obs, out)``"""
    return _caller((types.int64, types.int64, types.float64, types.int64, types.int64))


@intrinsic
def call_boxes(  # type: ignore[no-untyped-def]
    typingctx, function, box1, box2, pos1, mat1, pos2, mat2, margin, product, offset, initialize
):
    """``function(box1, box2, pos1, mat1, pos2, mat2, margin, product, offset, initialize)``"""
    return _caller((*(6 * (types.int64,)), types.float64, *(3 * (types.int64,))), returns_int=True)
