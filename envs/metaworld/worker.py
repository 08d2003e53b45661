"""The program of a worker process; ``mtrl.envs.metaworld.workers`` starts it with its order as JSON."""

from __future__ import annotations

import json
import mmap
import socket
import sys

from mtrl.envs.metaworld.arrays import Arrays
from mtrl.envs.metaworld.simulators import Group
from mtrl.envs.metaworld.workers import RENDER, RESET, STEP


def main() -> None:
    order = json.loads(sys.argv[1])
    arrays = Arrays(
        order["num_envs"], order["render"], memoryview(mmap.mmap(order["memory"], 0))
    )
    with socket.socket(fileno=order["socket"]) as parent:
        group = None
        try:
            group = Group(order["tasks"], order["reward_version"], arrays, order["first"])
            parent.sendall(b"done\n")
            commands = {RESET: group.reset, STEP: group.step, RENDER: group.render}
            while command := parent.recv(1):
                commands[command]()
                parent.sendall(b"done\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the parent is gone
        except Exception as error:  # of any kind: the parent reports it
            parent.sendall(
                " ".join(f"{type(error).__name__}: {error}".split()).encode() + b"\n"
            )
        finally:
            if group is not None:
                group.close()


if __name__ == "__main__":
    main()
