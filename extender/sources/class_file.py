"""Workload classes from a file that is read again when it changes; the kubelet replaces the files of a mounted ConfigMap."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from extender.decision.request.workload_classes import ClassesError, WorkloadClass, read_classes
from extender.decision.state.changes import ClassesSeen
from extender.errors import SettingsError
from extender.loading import DocumentError, load_documents
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.supervision import Supervisor

log = logging.getLogger("fabricwise.classes")

LOOK_SECONDS = 2.0
"""Time between two reads of the file."""


def load_classes(path: Path) -> dict[str, WorkloadClass]:
    """Return the classes of a file by name. Raises SettingsError naming file, class and field."""
    try:
        documents = load_documents(path.read_bytes(), f"workload classes {path}")
        if len(documents) != 1:
            raise SettingsError(
                f"workload classes {path}: expected one document, found {len(documents)}; config/workload-classes.yaml is an example"
            )
        return read_classes(documents[0])
    except OSError as error:
        raise SettingsError(f"workload classes {path}: {error.strerror or error}: give a readable file") from error
    except ClassesError as error:
        raise SettingsError(f"workload classes {path}: {error}; config/workload-classes.yaml is an example") from error


class ClassFile:
    """Follows a file of workload classes from `start` to `stop`."""

    def __init__(self, path: Path, store: ClusterStore, supervisor: Supervisor | None = None) -> None:
        """Read the file once. Raises SettingsError, because an extender without its workload classes would place pods wrongly."""
        self._supervisor = supervisor or Supervisor(Metrics())
        self._path, self._store = path, store
        self._stop = threading.Event()
        self._text = self._read()
        store.apply((ClassesSeen(load_classes(path)),))

    def start(self) -> None:
        """Start the thread and return."""
        self._supervisor.start("workload-classes", self._follow, self._stop)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except OSError:
            return None

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            text = self._read()
            if text == self._text:
                continue
            try:
                classes = load_classes(self._path)
            except (SettingsError, DocumentError) as error:
                log.error("%s; the previous classes stay in force", error)
                self._text = text
                continue
            self._store.apply((ClassesSeen(classes),))
            self._text = text  # last, so that a failed change is tried again
            log.info("workload classes read again: %s", ", ".join(sorted(classes)))
