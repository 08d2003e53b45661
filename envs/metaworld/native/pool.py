"""The threads behind a vector environment."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import share


class Pool:
    """Runs jobs (see ``share``) on up to ``num_threads`` threads at a time, the caller's among them.

    Threads are started when first needed. A fork has none of its parent's threads, so it needs a pool of its own.

    Args:
        num_threads: at least 1.
        chunks: int64 ``[num_chunks, CHUNK_SIZE]``.
        arrays: ``sims``, ``envs``, ``resets`` and ``out`` of ``share.take_part``.
    """

    def __init__(
        self, num_threads: int, chunks: NDArray[np.int64], *arrays: tuple[NDArray, ...]
    ) -> None:
        self.pid = os.getpid()
        self._num_threads = min(num_threads, len(chunks))
        self._work: tuple[Any, ...] = (chunks, *arrays)
        self._threads: list[threading.Thread] = []
        self._pool = np.zeros(share.POOL_SIZE, np.int64)
        library = ctypes.CDLL(None)
        for place, name in (
            (share.LOCK, "pthread_mutex_lock"),
            (share.UNLOCK, "pthread_mutex_unlock"),
            (share.WAIT, "pthread_cond_wait"),
            (share.SIGNAL, "pthread_cond_signal"),
        ):
            self._pool[place] = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        base = self._pool.ctypes.data
        library.pthread_mutex_init(ctypes.c_void_p(base + 8 * share.MUTEX), None)
        for condition in (share.START, share.FINISH):
            library.pthread_cond_init(ctypes.c_void_p(base + 8 * condition), None)
        self._compile()

    def begin(self, caller_helps: bool) -> None:
        """Begins a job; ``caller_helps`` says that ``finish`` follows at once, which spares waking a thread."""
        wake = self._num_threads - caller_helps
        while len(self._threads) < wake:
            arguments = (self._pool, int(self._pool[share.JOB]), *self._work, True)
            # A daemon, since the interpreter waits for other threads before it calls exit handlers.
            thread = threading.Thread(
                target=share.take_part, args=arguments, name="metaworld", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        share.post(self._pool, self._num_threads, wake)

    def finish(self) -> None:
        """Takes part in the job begun last and returns when it is done."""
        share.take_part(self._pool, int(self._pool[share.JOB]) - 1, *self._work, False)

    def _compile(self) -> None:
        """Has everything compiled, or loaded from an earlier start, before the first step."""
        share.post(self._pool, 0, 0)
        share.take_part(self._pool, 1, self._work[0][:0], *self._work[1:], False)
        share.stop(self._pool.copy(), 0)

    def close(self) -> None:
        """Ends the threads and waits for them; harmless when repeated, and in a fork."""
        if self.pid != os.getpid():
            return
        share.stop(self._pool, len(self._threads))
        for thread in self._threads:
            thread.join()
        self._threads.clear()
