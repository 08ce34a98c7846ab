"""The process of `fabricwise steer`, without the command line: what parses the options takes 10 MB, which no steerer needs afterwards.

`in_place_of_this` replaces the process by one that runs `main` here. It runs on every GPU node, and must stay small.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import msgspec

from extender.errors import run_command
from extender.logs import log_to_stderr
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.processes.options import Options
from extender.steering.processes.parent_process import ParentProcess

_SMALL_MEMORY = {"MALLOC_ARENA_MAX": "1"}
"""glibc's allocator then has one arena for all threads, so that what one of them frees serves the others."""


def in_place_of_this(options: Options) -> NoReturn:
    """Replace this process by a steerer: same process id, same environment. Raises OSError where Python cannot be executed."""
    finds_modules_here = sys.path[:1] == [os.getcwd()]
    command = [sys.executable, *([] if finds_modules_here else ["-P"]), "-m", __name__, msgspec.json.encode(options).decode()]
    os.execve(sys.executable, command, {**_SMALL_MEMORY, **os.environ})  # noqa: S606 - our own module


def steer(options: Options) -> int:
    """Serve or stand by until told to end; an exit status."""
    log_to_stderr("INFO")

    def work(keeper: Keeper) -> int:
        from extender.steering.processes.serving_process import serve

        return serve(options, keeper)

    if not options.stand_by:
        # before processes are forked, so that each serves at once; it takes 20 MB
        import_module("extender.steering.processes.serving_process")
    gc.freeze()  # a collection writes to each object that it looks at, and what is written is no longer shared with the parent
    return ParentProcess(work, options.shared).run(options.stand_by)


def main() -> None:
    """Entry point. The one argument holds the options, as `in_place_of_this` writes them."""

    def app(**_: Any) -> int:
        return steer(msgspec.json.decode(sys.argv[1], type=Options))

    run_command(app)


if __name__ == "__main__":
    main()
