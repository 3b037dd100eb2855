"""The archive: a folder of files that are complete, on disk and never changed.

A file is written under ``incoming/`` on the same file system, synced, renamed into place, and its folder
synced; only then is it spoken of anywhere. Rows hold paths relative to the root, which may be a shared mount.

    images/ab/<study UID>/<SOP UID>.<digest>.dcm      as received; ab: first byte of the study UID's SHA-256
    results/ab/<study UID>/<SOP UID>.<digest>.dcm     what we made
    incoming/                                         being written; leftovers are swept
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.errors import NoRoom, OutOfResources

INCOMING_LEFTOVER_SECONDS: Final = 900
"""Time without a byte after which a file under ``incoming/`` is no longer being written by anyone."""

_KINDS: Final = ("images", "results")
_CHUNK_BYTES: Final = 1 << 20


class Archive:
    """Files under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.incoming = self.root / "incoming"

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            OutOfResources: If they cannot be made.
        """
        try:
            for folder in (self.incoming, self.root / "images", self.root / "results"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutOfResources(f"the archive {self.root}: {error.strerror}") from error

    def station_uid(self) -> str:
        """The UID of this installation (PS3.3 C.12.1.1.15 asks for one that no other has), made once.

        Raises:
            OutOfResources: If it can be neither read nor written.
        """
        file = self.root / "station.uid"
        try:
            if not file.exists():
                new = self.incoming / f"{uuid.uuid4()}.uid"
                new.write_text(f"2.25.{uuid.uuid4().int}\n", encoding="ascii")
                with suppress(FileExistsError):  # another process of the node was first
                    os.link(new, file)
                new.unlink()
            return file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise OutOfResources(f"the archive {self.root}: {error.strerror}") from error

    def absolute(self, relative: str) -> Path:
        """Where a recorded path is on this machine."""
        return self.root / relative

    def require_there(self) -> None:
        """Looks whether its folders can be seen.

        Raises:
            OutOfResources: If they cannot.
        """
        if not self.is_there:
            raise OutOfResources(f"the archive {self.root} is not there")

    @property
    def is_there(self) -> bool:
        """Whether its folders can be seen: those of a share that is away cannot."""
        return self.incoming.is_dir()

    def free_bytes(self) -> int:
        """Free space of the archive's file system, in bytes."""
        return shutil.disk_usage(self.root).free

    def require_room(self, minimum_bytes: int) -> None:
        """Looks whether its file system is there, takes files as far as it says so itself, and has room.

        Raises:
            OutOfResources: If it is away, or has become read-only, as one does on a damaged disk.
            NoRoom: If less than that is free.
        """
        try:
            flags = os.statvfs(self.incoming).f_flag
        except OSError as error:
            raise OutOfResources(f"the archive {self.root}: {error.strerror}") from error
        if flags & os.ST_RDONLY:
            raise OutOfResources(f"the archive {self.root}: {os.strerror(errno.EROFS)}")
        if (free := self.free_bytes()) < minimum_bytes:
            raise NoRoom(f"{free} bytes free, minimum {minimum_bytes}")

    def take_image(self, received: Path, study_uid: str, sop_uid: str, digest: str) -> str:
        """Moves a received file to its place, durably.

        Args:
            received: A file on the archive's own file system.
            study_uid: Study Instance UID, already found to be a UID.
            sop_uid: SOP Instance UID, already found to be a UID.
            digest: Digest of the dataset; two versions of one UID stand side by side.

        Returns:
            The path relative to the root.

        Raises:
            OutOfResources: If the disk would not take it.
        """
        return self._move(received, self._image(study_uid, sop_uid, digest))

    def lay_down(self, content: bytes) -> Path:
        """Writes one of our own objects under ``incoming/``, until ``take_result`` takes it.

        Raises:
            OutOfResources: If the disk would not take it.
        """
        try:
            return _write(content, self.incoming, ".dcm")
        except OSError as error:
            raise OutOfResources(f"the archive: {error.strerror}") from error

    def take_result(self, laid_down: Path, study_uid: str, sop_uid: str, digest: str) -> str:
        """Moves one of our own objects to its place, durably; the path relative to the root is returned.

        The digest in its name keeps a worker that has lost its lease from writing over what another has made.

        Raises:
            OutOfResources: If the disk would not take it.
        """
        return self._move(laid_down, self._folder("results", study_uid) / f"{sop_uid}.{digest[:16]}.dcm")

    def put(self, source: Path, relative: str) -> None:
        """Moves a file on the archive's own file system to a recorded path, durably.

        Raises:
            OutOfResources: If the disk would not take it.
        """
        self._move(source, self.root / relative)

    def remove(self, relative: str, inode: int) -> None:
        """Removes a file, unless another one has come to its place since its inode was looked up.

        Raises:
            OutOfResources: If the disk would not let it go.
        """
        path, aside = self.root / relative, self.incoming / f"{uuid.uuid4()}.removed"
        try:
            path.rename(aside)
            if aside.stat().st_ino != inode:
                with suppress(FileExistsError):  # yet another has come, which is the same object
                    os.link(aside, path)
            aside.unlink()
            with suppress(OSError):  # other files of the study, or a listener that is just bringing one
                path.parent.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutOfResources(f"the archive: {error.strerror}") from error

    def size(self, relative: str) -> int:
        """Size of a recorded file in bytes; 0 where there is none."""
        try:
            return self.absolute(relative).stat().st_size if relative else 0
        except FileNotFoundError:
            return 0

    def files_of(self, study_uid: str) -> list[Path]:
        """What lies in the folders of a study, named by a row or not.

        Raises:
            OutOfResources: If the disk does not say.
        """
        folders = (self._folder(kind, study_uid) for kind in _KINDS)
        return [path for folder in folders for path in _listed(folder)]

    def has_image(self, study_uid: str, sop_uid: str, digest: str) -> bool:
        """Whether an image's file is there."""
        return self._image(study_uid, sop_uid, digest).is_file()

    def has_images_of(self, study_uid: str) -> bool:
        """Whether a study has a folder of images."""
        return self._folder("images", study_uid).is_dir()

    def studies(self) -> Iterator[str]:
        """The Study Instance UIDs that have a folder, whatever the records say; each once.

        Raises:
            OutOfResources: If the disk does not say.
        """
        seen: set[str] = set()
        for kind in _KINDS:
            for shard in _listed(self.root / kind):
                for folder in _listed(shard):
                    if folder.name not in seen:
                        seen.add(folder.name)
                        yield folder.name

    def clear(self, study_uid: str, gone: Collection[str], keep: Collection[str]) -> None:
        """Removes files of a study durably, and folders that this empties.

        A file that no row names, left by a process that was killed, goes too, once it is so old that its row
        will not be written any more.

        Args:
            study_uid: Study Instance UID.
            gone: Paths relative to the root of what goes; it may have gone already.
            keep: Likewise of what stays.

        Raises:
            OutOfResources: If the disk would not let them go, or is away.
        """
        self.require_there()
        try:
            for relative in gone:
                self.absolute(relative).unlink(missing_ok=True)
            for kind in _KINDS:
                _clear_folder(self._folder(kind, study_uid), {self.absolute(relative) for relative in keep})
        except OSError as error:
            raise OutOfResources(f"the archive: {error.strerror}") from error

    def sweep_incoming(self) -> int:
        """Removes what transfers that ended badly left behind; the number of files removed is returned."""
        removed = 0
        for path in self.incoming.iterdir():
            with suppress(FileNotFoundError):  # a listener has just moved it to its place
                if not is_young(path):
                    path.unlink()
                    removed += 1
        return removed

    def probe(self) -> None:
        """Writes, syncs, reads back and removes a small file.

        Raises:
            OutOfResources: If any of that fails.
        """
        content = os.urandom(64)
        try:
            written = _write(content, self.incoming, ".probe")
            sync(written)
            read_back = written.read_bytes()
            written.unlink()
        except OSError as error:
            raise OutOfResources(f"the archive {self.root}: {error.strerror}") from error
        if read_back != content:
            raise OutOfResources(f"the archive {self.root} does not give back what was written")

    def _folder(self, kind: str, study_uid: str) -> Path:
        shard = hashlib.sha256(study_uid.encode()).hexdigest()[:2]
        return self.root / kind / shard / study_uid

    def _image(self, study_uid: str, sop_uid: str, digest: str) -> Path:
        return self._folder("images", study_uid) / f"{sop_uid}.{digest[:16]}.dcm"

    def _move(self, source: Path, target: Path) -> str:
        try:
            sync(source)
            _make_folder(target.parent, self.root)
            source.rename(target)
            sync(target.parent)
        except OSError as error:
            raise OutOfResources(f"the archive: {error.strerror}") from error
        return str(target.relative_to(self.root))


def is_young(path: Path) -> bool:
    """Whether a file may still be written, or its row: then nobody else may take it for a leftover."""
    return path.stat().st_mtime >= time.time() - INCOMING_LEFTOVER_SECONDS


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise OutOfResources(f"the archive: {error.strerror}") from error


def file_digest(path: Path, offset: int = 0) -> str:
    """SHA-256 of a file from ``offset`` bytes on, as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _write(content: bytes, folder: Path, suffix: str) -> Path:
    """A new file with this content; nothing of it stays on a disk that does not take it."""
    descriptor, name = tempfile.mkstemp(dir=folder, suffix=suffix)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)


def _make_folder(folder: Path, root: Path) -> None:
    """Makes a folder and syncs each parent that gained one: a rename into a lost folder is lost too."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync(new.parent)


def _clear_folder(folder: Path, keep: Collection[Path]) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path not in keep and not is_young(path):
            path.unlink()
    try:
        folder.rmdir()
    except OSError:  # not empty
        sync(folder)
    else:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Has a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
