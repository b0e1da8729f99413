"""On what kind of file system a path lies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")
# Those between machines, by the kernel's names; of those in user space what follows `fuse.`.
NETWORK = frozenset({
    "9p", "afs", "beegfs", "blobfuse2", "ceph", "ceph-fuse", "cifs", "coda", "davfs", "davfs2", "gcsfuse", "gfs2",
    "glusterfs", "gpfs", "juicefs", "lustre", "mfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
    "rclone", "s3fs", "smb3", "smbfs", "sshfs", "wekafs",
})  # fmt: skip


class Mount(NamedTuple):
    """A mounted file system: where, and its kind."""

    point: Path
    kind: str

    @property
    def is_network(self) -> bool:
        return self.kind.removeprefix("fuse.") in NETWORK


def mount_of(path: Path) -> Mount | None:
    """The mount that a path lies on, also one that is yet to be made; None where the system does not say."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    path, found = path.resolve(), None
    for line in lines:  # proc(5): the fifth field is where, the first after a hyphen what; spaces are octal
        fields, _, source = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4]))
        # What is mounted later covers what was mounted there before.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= len(found.point.parts)):
            found = Mount(point, source.split()[0])
    return found
