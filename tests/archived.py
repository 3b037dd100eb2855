"""Objects of the node's own in an archive, for tests that need some there."""

from __future__ import annotations

import hashlib

from service.archive import Archive


def write_result(archive: Archive, content: bytes, study_uid: str, sop_uid: str) -> str:
    """Lays a result down and has it taken, as a worker does; its path relative to the root is returned."""
    digest = hashlib.sha256(content).hexdigest()
    return archive.take_result(archive.lay_down(content), study_uid, sop_uid, digest)
