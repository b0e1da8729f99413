"""Where a path lies, by the kernel's own list and by lists as other machines have them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nas_edge import StorageError
from nas_edge.store import mounts
from nas_edge.store.database import open_storage
from nas_edge.store.mounts import Mount, mount_of

LIST = """\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
31 22 0:5 / /proc rw,nosuid - proc proc rw
40 22 0:40 / {folder}/share rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2,addr=10.0.0.2
41 22 0:41 / {folder}/my\\040disk rw,relatime - fuse.sshfs user@host:/ rw,user_id=0
42 40 8:3 / {folder}/share/local rw,relatime - xfs /dev/sdb1 rw
43 22 0:43 / {folder}/twice rw,relatime - cifs //server/share rw
44 43 8:4 / {folder}/twice rw,relatime - ext4 /dev/sdc1 rw
"""


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the mounts of `LIST`."""
    file = tmp_path / "mountinfo"
    file.write_text(LIST.format(folder=tmp_path))
    monkeypatch.setattr(mounts, "MOUNTS", file)
    return tmp_path


def test_this_machines_own_list_agrees_with_stat(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/proc/self"), Path("/dev/shm")):
        mount = mount_of(path)
        device = subprocess.run(["stat", "-c", "%m", path.resolve()], capture_output=True, text=True, check=True)
        assert mount is not None and str(mount.point) == device.stdout.strip()
    mount = mount_of(Path("/proc/self/fd"))
    assert mount is not None and mount.kind == "proc" and not mount.is_network


def test_the_innermost_and_latest_mount_counts(listed: Path) -> None:
    assert mount_of(listed / "study.db") == Mount(Path("/"), "ext4")
    assert mount_of(listed / "share" / "a" / "study.db") == Mount(listed / "share", "nfs4")
    assert mount_of(listed / "shares") == Mount(Path("/"), "ext4")
    assert mount_of(listed / "share" / "local" / "x") == Mount(listed / "share" / "local", "xfs")
    assert mount_of(listed / "my disk" / "x") == Mount(listed / "my disk", "fuse.sshfs")
    assert mount_of(listed / "twice") == Mount(listed / "twice", "ext4")
    (listed / "link").symlink_to(listed / "share")
    assert mount_of(listed / "link" / "study.db") == Mount(listed / "share", "nfs4")


def test_without_a_list_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    assert mount_of(tmp_path) is None
    assert open_storage(f"sqlite:///{tmp_path}/study.db", create=True)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(("name", "kind"), [("share", "nfs4"), ("my disk", "fuse.sshfs")])
def test_a_network_file_system_is_refused(name: str, kind: str, create: bool, listed: Path) -> None:
    folder = listed / name
    folder.mkdir()
    (folder / "study.db").touch()
    with pytest.raises(StorageError) as caught:
        open_storage(f"sqlite:///{folder}/study.db", create=create)
    said = str(caught.value)
    assert f"{folder}/study.db is on a network file system ({kind}, mounted at {folder})" in said
    assert "postgresql://" in said and "\n" not in said
    assert (folder / "study.db").stat().st_size == 0
    assert open_storage(f"sqlite:///{listed}/study.db", create=True)
