"""A journal in a zip file with one member, written and read as a stream: neither is ever in memory as a whole."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from extender.decision.replay.journal_lines import MOST_JOURNAL_BYTES, JournalError

MEMBER = "journal.jsonl"
MOST_ARCHIVE_BYTES = 256 << 20
"""A larger file is not read."""

_CHUNK_BYTES = 64 << 10
ZIP = b"PK"
"""The first bytes of a zip file."""
_UNPACK = "Make a new one with: fabricwise snapshot > s.zip"


class _Chunks:
    """A file that is written once, from the start to the end, and whose content is taken from it meanwhile."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def write(self, part: bytes) -> int:
        """Append a part."""
        self._parts.append(bytes(part))
        self.size += len(part)
        return len(part)

    def flush(self) -> None:
        """Do nothing: `taken` returns everything."""

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        content = b"".join(self._parts)
        self._parts, self.size = [], 0
        return content


def zipped(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of an archive of these lines."""
    chunks = _Chunks()
    with zipfile.ZipFile(cast(IO[bytes], chunks), "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        member = zipfile.ZipInfo(MEMBER)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = (stat.S_IFREG | 0o600) << 16
        with archive.open(member, "w", force_zip64=True) as file:
            for line in lines:
                file.write(line)
                if chunks.size >= _CHUNK_BYTES:
                    yield chunks.taken()
    yield chunks.taken()


@contextmanager
def opened_journal(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open the journal in an archive, or a journal that is a plain text, for reading; with whether it may be written at this time.

    Raises JournalError.
    """
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == ZIP
            file.seek(0)
            if not is_archive:
                yield file, True
                return
            if path.stat().st_size > MOST_ARCHIVE_BYTES:
                raise JournalError(f"{path} is larger than {MOST_ARCHIVE_BYTES >> 20} MiB, the most that is read")
            with zipfile.ZipFile(file) as archive, archive.open(_member(archive, path)) as member:
                yield member, False
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise JournalError(f"{path} is damaged, or is no zip file: {error}. {_UNPACK}") from error
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror or error}: give a file that can be read") from error


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Return the only member. No member is ever written to a file, so that its name has no effect."""
    members = archive.infolist()
    if [member.filename for member in members[:2]] != [MEMBER] or len(members) != 1:
        raise JournalError(f"{path} is no snapshot: it must contain {MEMBER} alone. {_UNPACK}")
    if members[0].flag_bits & 1:
        raise JournalError(f"{path} is encrypted, which no snapshot is. {_UNPACK}")
    if members[0].file_size > MOST_JOURNAL_BYTES:
        raise JournalError(f"{path} contains {members[0].file_size} bytes, {MOST_JOURNAL_BYTES} are the most that are read")
    return members[0]
