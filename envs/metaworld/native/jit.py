"""The compiled reward functions, and the few instructions with which compiled code reaches memory by address.

Compiled code never holds an address: those of libmujoco, of models and of data are passed in as integers on every call,
so that code cached on disk stays valid from one process to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from mtrl.envs.compiled import callback

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
    return callback(function, REWARD_SIGNATURE)


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
        kinds = [
            ir.DoubleType() if kind == types.float64 else ir.IntType(64) for kind in arguments
        ]
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
    return _caller(
        (*(6 * (types.int64,)), types.float64, *(3 * (types.int64,))), returns_int=True
    )
