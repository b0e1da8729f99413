"""A device that the system's ssh reaches. Nothing is opened on it: frames go over the standard streams of ssh."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from nas_edge import agent
from nas_edge.errors import UserError
from nas_edge.targets.address import Address, parse_whole
from nas_edge.targets.device import AgentOptions, AgentTarget, option, parse_options
from nas_edge.targets.process import HAVE, WANT, AgentProcess

PLACE = re.compile(
    r"((?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?\])"
    r"(:(?P<port>[^:@]*))?"
)
PYTHON = re.compile(r"(~/)?[A-Za-z0-9_./+][A-Za-z0-9_./+-]*")
START_TIMEOUT_S = 60.0
INSTALL_TIMEOUT_S = 1800.0  # a small board on a slow line
# What the user's configuration may hold and an agent must not have; whether to trust a host's key stays theirs.
SSH_OPTIONS = (
    "BatchMode=yes",
    "ClearAllForwardings=yes",
    "ConnectTimeout=10",
    "ControlMaster=no",
    "ControlPath=none",  # agents do not share a connection that one of them may end
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=ERROR",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ServerAliveCountMax=3",
    "ServerAliveInterval=5",
)
# One line, so that any login shell passes it on. The agent is written under another name until it is whole.
BOOTSTRAP = (
    'd="${{XDG_CACHE_HOME:-$HOME/.cache}}/nas_edge"; f="$d/agent-{digest}.py"; t="$f.$$"; '
    'if [ ! -f "$f" ]; then mkdir -p "$d" && echo {want} && head -c {size} >"$t" && '
    '[ "$(wc -c <"$t")" -eq {size} ] && mv "$t" "$f" || {{ rm -f "$t"; exit 73; }}; fi; '
    'echo {have}; exec {python} "$f" {arguments}'
)
INSTALL = (
    'd="${{XDG_DATA_HOME:-$HOME/.local/share}}/nas_edge/venv"; {python} -m venv "$d" 1>&2 && '
    '"$d/bin/python" -m pip install --quiet --disable-pip-version-check {packages} 1>&2 && echo "$d/bin/python"'
)


def parse_python(text: str) -> str:
    """A device's interpreter: a name or a path. Raises `UserError` for odd characters."""
    if not PYTHON.fullmatch(text):
        raise UserError(f"python is {text!r}; give the interpreter's name or path on the device, without spaces")
    return text


def parse_file(text: str) -> str:
    """The absolute path of a file of ours. Raises `UserError` where there is none."""
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise UserError(f"{text!r} is no file; give an existing one")
    return str(path)


@dataclass(frozen=True)
class SshOptions(AgentOptions):
    """Beside those of all agents: the device's `python`, and for ssh a key (`identity`) and a `config` file."""

    python: str = option("python3", parse_python)
    identity: str = option("", parse_file)
    config: str = option("", parse_file)


class SshTarget(AgentTarget):
    """The CPU of `ssh://user@host:port?threads=4` through the ONNX Runtime that is installed there."""

    scheme = "ssh"
    pauses_s: ClassVar[Sequence[float]] = (1.0, 5.0, 20.0, 60.0)  # a small board starts again in about a minute

    def __init__(self, place: str, **options: object) -> None:
        parsed = parse_options(SshOptions, self.scheme, options)
        self._ssh = ssh_command(place, parsed)
        super().__init__(place, parsed)
        self.options: SshOptions = parsed
        self._place = place
        self.remedy = f"`ssh ssh://{place}` must work without a question, and python must be installed there"

    @classmethod
    def from_address(cls, text: str) -> SshTarget:
        """The target at an address of the scheme `ssh`. Raises `UserError` naming what is wrong with it."""
        address = Address.parse(text)
        try:
            return cls(address.place, **address.options)
        except UserError as error:
            raise UserError(f"target {text!r}: {error}") from None

    def start(self) -> AgentProcess:
        """Start an agent, over a connection of its own. Its file is copied where the device has another or none."""
        program = Path(agent.__file__).read_bytes()
        script = BOOTSTRAP.format(
            digest=hashlib.sha256(program).hexdigest()[:16],
            size=len(program),
            have=shlex.quote(HAVE.decode()),
            want=shlex.quote(WANT.decode()),
            python=shell_path(self.options.python),
            arguments=shlex.join(self.agent_arguments()),
        )
        process = AgentProcess(self._command(script))
        process.deliver(program, timeout_s=START_TIMEOUT_S)
        return process

    def install(self) -> SshTarget:
        """Make a virtual environment on the device, with numpy and our version of onnxruntime; the target that uses it.

        Raises `UserError` with the last line that the device said.
        """
        packages = shlex.join(["numpy", f"onnxruntime=={version('onnxruntime')}"])
        script = INSTALL.format(python=shell_path(self.options.python), packages=packages)
        try:
            done = subprocess.run(
                self._command(script), stdin=subprocess.DEVNULL, capture_output=True, timeout=INSTALL_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"target {self.name}: the installation took more than {INSTALL_TIMEOUT_S:g} s") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise UserError(
                f"target {self.name}: the installation failed: {last_reason(said)}; or install numpy and onnxruntime "
                "there yourself, and name the interpreter that has them with ?python="
            )
        python = done.stdout.decode().strip().splitlines()[-1]
        return type(self)(self._place, **{**self.options.given(), "python": python})

    def _command(self, script: str) -> list[str]:
        return [*self._ssh, f"exec sh -c {shlex.quote(script)}"]


def last_reason(said: str) -> str:
    """Why an installation failed, in one line: the last one, but for Debian's venv, which says it further up."""
    if "ensurepip is not available" in said:
        return "the device's Python cannot make virtual environments; `sudo apt install python3-venv` mends it"
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def shell_path(path: str) -> str:
    """A path for a shell on the device: a leading ~ is its home folder."""
    return f'"$HOME/{path[2:]}"' if path.startswith("~/") else f'"{path}"'


def ssh_command(place: str, options: SshOptions) -> list[str]:
    """How ssh is called, up to and with the host. Raises `UserError` for a host or user that ssh could misread."""
    match = PLACE.fullmatch(place)
    if match is None:
        raise UserError(f"{place!r} is no user@host[:port]; write ssh://pi@board or ssh://pi@192.168.1.7:2222")
    command = ["ssh", *(["-F", options.config] if options.config else []), "-T"]
    for setting in SSH_OPTIONS:
        command += ["-o", setting]
    if options.identity:
        command += ["-o", "IdentitiesOnly=yes", "-i", options.identity]
    if match["user"]:
        command += ["-l", match["user"]]
    if match["port"] is not None:
        command += ["-p", str(parse_whole("port", match["port"], 65535))]
    return [*command, "--", match["host"].strip("[]")]
