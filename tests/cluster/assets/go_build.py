"""Kubernetes' binaries compiled from the public Go module `k8s.io/kubernetes`, for machines that cannot download the released ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

SOURCES = Path(__file__).parent / "control_plane_build"
"""A Go module with one folder per binary: a `main` package that calls the command of `k8s.io/kubernetes`."""

LIMIT_SECONDS = 1500.0
"""A build that takes longer is ended: `.ci/run` as a whole is to end within 30 minutes."""

_PROGRESS_SECONDS = 30.0
_LAST_LINES = 15
_STAMPED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class GoBuildError(RuntimeError):
    """The binaries were not built; the message says why, with the last lines of the go command."""


def build(version: str, names: Sequence[str], folder: Path, say: Callable[[str], None], sources: Path = SOURCES) -> None:
    """Compile `names` (folders of `sources`, a Go module) as `version` ("v1.36.3") and move each into `folder` once it is complete.

    One `go build` for all of them, so that their shared packages are compiled once. `say` is told about progress.
    Raises GoBuildError, also where no Go toolchain is on PATH.
    """
    go = shutil.which("go")
    if go is None:
        raise GoBuildError("no Go toolchain is on PATH")
    say(f"building {' and '.join(names)} {version} from the Go module k8s.io/kubernetes: once, about 5 minutes on two cores")
    packages = [f"./{name}" for name in names]
    started = time.monotonic()
    count = len(_run([go, "list", "-mod=readonly", "-deps", *packages], started, say, sources=sources))
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as partial:
        flags = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-v", "-ldflags", f"-s -w {_stamps(version)}"]
        _run([go, "build", *flags, "-o", f"{partial}/", *packages], started, say, packages=count, sources=sources)
        missing = [name for name in names if not (Path(partial) / name).is_file()]
        if missing:
            raise GoBuildError(f"go build ended without an error and did not write {', '.join(missing)}")
        for name in names:
            (Path(partial) / name).replace(folder / name)
    say(f"built {' and '.join(names)} in {time.monotonic() - started:.0f} s")


def _stamps(version: str) -> str:
    """Linker flags that state the version, which a build outside the Kubernetes repository does not know (v0.0.0-master)."""
    major, minor = version.removeprefix("v").split(".")[:2]
    facts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X {package}.{name}={value}" for package in _STAMPED for name, value in facts.items())


def _environment() -> dict[str, str]:
    """This process's environment, for a static binary for this machine; an enclosing Go workspace is ignored."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH")}
    return kept | {"CGO_ENABLED": "0", "GOWORK": "off"}


def _run(command: list[str], started: float, say: Callable[[str], None], packages: int = 0, sources: Path = SOURCES) -> list[str]:
    """The lines of standard output of a go command. Raises GoBuildError.

    `started`: the monotonic time from which LIMIT_SECONDS counts. `packages`: how many `-v` names at most, for progress.
    """
    what = f"go {command[1]}"
    errors = _Errors()
    with tempfile.TemporaryFile("w+") as output:
        try:
            child = subprocess.Popen(
                command,
                cwd=sources,
                env=_environment(),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise GoBuildError(f"{what} cannot be started: {error}") from error
        with child:
            reader = threading.Thread(target=errors.read, args=(child.stderr,), daemon=True)
            reader.start()
            try:
                in_time = _wait(child, started, lambda: say(f"{what}: {errors.progress(packages)}{time.monotonic() - started:.0f} s"))
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)  # its own session: go and the compilers it started
                reader.join()
        if not in_time:
            raise GoBuildError(f"{what} was ended after {LIMIT_SECONDS:.0f} s; its last lines:\n{errors.end()}")
        if child.returncode:
            raise GoBuildError(f"{what} ended with status {child.returncode}; its last lines:\n{errors.end()}")
        output.seek(0)
        return output.read().splitlines()


def _wait(child: subprocess.Popen[str], started: float, show: Callable[[], None]) -> bool:
    """Whether the child ended by itself within LIMIT_SECONDS of `started`; `show` is called now and then meanwhile."""
    while (left := LIMIT_SECONDS - (time.monotonic() - started)) > 0:
        try:
            child.wait(min(left, _PROGRESS_SECONDS))
        except subprocess.TimeoutExpired:
            show()
        else:
            return True
    return False


class _Errors:
    """What a go command writes to standard error: how many lines, and the last of them."""

    def __init__(self) -> None:
        self._count = 0
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def read(self, lines: Iterable[str]) -> None:
        """Take lines until there are no more."""
        for line in lines:
            self._count += 1
            self._last.append(line.rstrip())

    def end(self) -> str:
        """The last lines."""
        return "\n".join(self._last)

    def progress(self, packages: int) -> str:
        """For `go build -v`, which writes one line per package that it compiles."""
        return f"{self._count} of at most {packages} packages compiled, " if packages else ""
