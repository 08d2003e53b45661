"""Threads that share a vector step. A job is a list of chunks; each free thread takes the next one.

Threads wait by pthread conditions, called from compiled code. So idle threads sleep in the kernel, and a step never
needs the interpreter's lock. A chunk holds some environments of one task and the simulation they run in, so results do
not depend on which thread takes which chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.jit import call_two
from mtrl.envs.metaworld.native.kernel import step_one

# The int64 array ``pool``: addresses of pthread functions, then counters, then room for one mutex and two conditions.
LOCK, UNLOCK, WAIT, SIGNAL = range(4)
JOB, STOP, SEATS, NEXT, DONE = range(4, 9)
MUTEX, START, FINISH = range(16, 64, 16)
POOL_SIZE = 64

# Columns of ``chunks``: task, first environment, past the last environment, row of ``ctx``.
TASK, FIRST, PAST, SIMULATION = range(4)
CHUNK_SIZE = 4


@kernel
def _call(pool: NDArray, function: int, what: int, other: int) -> None:
    base = pool.ctypes.data
    call_two(pool[function], base + 8 * what, base + 8 * other)


@kernel
def post(pool: NDArray, seats: int, wake: int) -> None:
    """Begins the next job: up to ``seats`` threads take part, ``wake`` of those that sleep are woken."""
    _call(pool, LOCK, MUTEX, 0)
    pool[JOB] += 1
    pool[SEATS] = seats
    pool[NEXT] = 0
    pool[DONE] = 0
    for _ in range(wake):
        _call(pool, SIGNAL, START, 0)
    _call(pool, UNLOCK, MUTEX, 0)


@kernel
def stop(pool: NDArray, threads: int) -> None:
    """Lets every thread return once it has finished its chunk."""
    _call(pool, LOCK, MUTEX, 0)
    pool[STOP] = 1
    for _ in range(threads):
        _call(pool, SIGNAL, START, 0)
    _call(pool, UNLOCK, MUTEX, 0)


@kernel
def step_chunk(
    chunk: NDArray, sims: Any, envs: Any, resets: Any, out: Any, scratch: Any
) -> None:
    """Steps a chunk's environments; those whose episode ends continue from the row of ``resets`` chosen for them."""
    ctx, bounds = sims[0][chunk[SIMULATION]], sims[1][chunk[TASK]]
    state, init, action, truncated, row = envs
    obs, final_obs, reward, info = out
    obs64, out64, world, half = scratch
    for env in range(chunk[FIRST], chunk[PAST]):
        step_one(ctx, bounds, state[env], init[env], action[env], obs64, out64, world, half)
        reward[env] = out64[at.REWARD]
        for i in range(at.OUT_SIZE - 1):
            info[env, i] = out64[at.SUCCESS + i]
        info[env, at.OUT_SIZE - 1] = out64[at.REWARD]
        for i in range(at.OBS_SIZE):
            final_obs[env, i] = obs[env, i] = np.float32(obs64[i])
        if truncated[env]:
            state[env, :] = resets[0][row[env]]
            init[env, :] = resets[1][row[env]]
            for i in range(at.OBS_SIZE):
                obs[env, i] = np.float32(resets[2][row[env], i])


@kernel
def take_part(
    pool: NDArray,
    job: int,
    chunks: NDArray,
    sims: Any,
    envs: Any,
    resets: Any,
    out: Any,
    stay: bool,
) -> None:
    """Takes chunks until none is left.

    Args:
        pool: see above.
        job: the last job whose chunks are not this thread's to take.
        chunks: int64 ``[num_chunks, CHUNK_SIZE]``.
        sims: ``ctx`` int64 ``[num_simulations, ...]`` and ``bounds`` ``[num_tasks, BOUNDS_SIZE]``.
        envs: ``state``, ``init``, ``action``, ``truncated``, ``row`` (of ``resets``), each ``[num_envs, ...]``.
        resets: ``state``, ``init``, ``obs``, each ``[rows, ...]``.
        out: ``obs``, ``final_obs``, ``reward``, ``info``, each ``[num_envs, ...]``.
        stay: sleep until the next job (or the end), rather than until this job is done.
    """
    scratch = (
        np.zeros(at.OBS_SIZE),
        np.zeros(at.OUT_SIZE),
        np.zeros(at.WORLD_SIZE),
        np.zeros(at.HALF_OBS),
    )
    _call(pool, LOCK, MUTEX, 0)
    while pool[STOP] == 0:
        if pool[JOB] != job and pool[SEATS] > 0:
            job = pool[JOB]
            pool[SEATS] -= 1
            while pool[NEXT] < len(chunks):
                chunk = pool[NEXT]
                pool[NEXT] += 1
                _call(pool, UNLOCK, MUTEX, 0)
                step_chunk(chunks[chunk], sims, envs, resets, out, scratch)
                _call(pool, LOCK, MUTEX, 0)
                pool[DONE] += 1
            if pool[DONE] == len(chunks):
                _call(pool, SIGNAL, FINISH, 0)
        elif stay:
            _call(pool, WAIT, START, MUTEX)
        elif pool[DONE] < len(chunks):
            _call(pool, WAIT, FINISH, MUTEX)
        else:
            break
    _call(pool, UNLOCK, MUTEX, 0)
