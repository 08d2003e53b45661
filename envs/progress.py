"""Progress of slow preparations: a bar on a terminal, one line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    items: Iterable[Any] = (),
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    delay: float = 0.0,
    disable: bool = False,
) -> tqdm[Any]:
    """A ``tqdm`` bar; where stderr is no terminal, ``desc`` as one line instead.

    Args:
        delay: seconds before the bar shows.
        disable: show nothing at all.
    """
    if not disable and not sys.stderr.isatty():
        print(desc, file=sys.stderr, flush=True)
        disable = True
    return tqdm(items, desc=desc, unit=unit, total=total, delay=delay, disable=disable)
