"""A device for the tests: a real sshd on loopback, whose Python has numpy and onnxruntime and nothing else."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import onnxruntime
import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is absent; `apt-get install openssh-server` brings it")
SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv XDG_CACHE_HOME={folder}/cache XDG_DATA_HOME={folder}/data PIP_NO_INDEX=1
"""
CLIENT = """\
Host *
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
"""


@dataclass
class SshDevice:
    """A running sshd. `address` is that of the device; its agents' files are in `cache`."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes]

    @property
    def place(self) -> str:
        return f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}"

    @property
    def python(self) -> str:
        return str(self.folder / "device" / "bin" / "python")

    @property
    def address(self) -> str:
        return f"ssh://{self.place}?python={self.python}&config={self.folder}/ssh_config&processes=1"

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / "nas_edge"

    def agents(self) -> list[int]:
        """The ids of the agents that run on the device."""
        return [pid for pid in _descendants(self.server.pid) if "/agent-" in _command(pid).partition(" ")[2]]

    def drop_links(self) -> None:
        """End every connection, as a lost network would; new ones are answered."""
        for pid in _descendants(self.server.pid):
            if "sshd" in _command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def switch_off(self) -> None:
        """End it with all that it started."""
        for pid in (*_descendants(self.server.pid), self.server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()

    def stop_agents(self) -> list[int]:
        """Let the agents hang."""
        stopped = self.agents()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        return stopped


@contextlib.contextmanager
def ssh_device(folder: Path) -> Iterator[SshDevice]:
    """Start an sshd with its own keys on a free port; everything that it started is gone with the block."""
    assert SSHD is not None
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd confines itself; Debian's service makes it
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "ssh_config").write_text(CLIENT.format(folder=folder))
    (folder / "sshd_config").write_text(SERVER.format(folder=folder, port=port))
    _bare_python(folder / "device")
    command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log) as server,
    ):
        try:
            _wait_for(port, server, folder / "log")
            yield SshDevice(folder, port, server)
        finally:
            SshDevice(folder, port, server).switch_off()


def _bare_python(folder: Path) -> None:
    """A virtual environment that sees only our numpy and onnxruntime."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (theirs,) = folder.glob("lib/python*/site-packages")
    for package in (numpy, onnxruntime):
        ours = Path(str(package.__file__)).parent
        for part in (ours, ours.with_name(f"{ours.name}.libs")):  # the wheel's shared libraries are beside it
            if part.exists():
                (theirs / part.name).symlink_to(part)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found.extend(parents.get(child, []))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
