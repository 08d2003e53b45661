"""A terminal of a given width, for what is only shown in one."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios


def open_terminal(columns: int) -> tuple[int, int]:
    """File descriptors of the terminal's own side and of the side that programs write to."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return outer, inner


def read_all(outer: int) -> str:
    """All that was written to the other side, once that is closed."""
    shown = b""
    while True:
        try:
            shown += os.read(outer, 4096)
        except OSError:  # the other side is closed
            return shown.decode()
