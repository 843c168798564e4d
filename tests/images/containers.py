"""Images built without a registry, and containers of them run as a deployment would run them.

The base is made of Debian's packages by mmdebstrap. buildah builds in a chroot and podman runs with
the host's network, so neither needs a bridge or a control group.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

from tests.helpers import server_processes as processes
from tests.helpers.api import Api
from tests.helpers.eventually import eventually
from tests.helpers.ports import HeldPort
from tests.helpers.server import REPOSITORY, START_LIMIT_S, STOP_LIMIT_S

TOOLS = ("mmdebstrap", "buildah", "podman", "unshare")
BASE = "localhost/docling-serve-test-base"
_PACKAGES = "python3,python3-venv,ca-certificates,tini"
_LEFT_OUT = ("doc", "locale", "man")  # as Debian's slim images do
_HYBRID = Path("/sys/fs/cgroup/unified")
USER = 1001


def why_not() -> str | None:
    """What keeps images from being built and run here; None if nothing does."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if os.geteuid() == 0 else "needs root: buildah in a chroot, podman without a bridge"


def run(*command: str, limit_s: float = 120) -> str:
    """The standard output of a command that succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def podman(*arguments: str, limit_s: float = 120) -> str:
    """The same for podman. crun takes no machine with both versions of control groups mounted, so
    there it is not shown version 2."""
    command = ["podman", *arguments]
    if _HYBRID.is_dir():
        command = ["unshare", "--mount", "sh", "-c", f'umount {_HYBRID}; exec "$@"', "sh", *command]
    return run(*command, limit_s=limit_s)


def build(target: str, folder: Path) -> str:
    """Build a target of the Containerfile; returns the image's name."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        base = folder / "base.tar"
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in _LEFT_OUT]
        minimal = ["--variant=minbase", '--aptopt=APT::Install-Recommends "false"', *excluded]
        run(
            *("mmdebstrap", *minimal, f"--include={_PACKAGES}", "bookworm", str(base)),
            limit_s=1200,
        )
        podman("import", str(base), f"{BASE}:latest", limit_s=600)
        base.unlink()
    image = f"localhost/docling-serve:{target}"
    arguments = {
        "BASE": BASE,
        "TORCH": os.environ.get("IMAGES_TORCH"),
        "TORCH_INDEX": os.environ.get("IMAGES_TORCH_INDEX"),
    }
    given = [f"--build-arg={k}={v}" for k, v in arguments.items() if v is not None]
    run(
        *("buildah", "build", "--format=docker", "--isolation=chroot", "--network=host"),
        *("--pull-never", f"--target={target}", f"--tag={image}", *given),
        *_pip_configuration(folder),
        *("--file", str(REPOSITORY / "deploy" / "Containerfile"), str(REPOSITORY)),
        limit_s=3000,
    )
    return image


def size(image: str) -> int:
    """Bytes of an image with all its layers."""
    return int(run("podman", "image", "inspect", "--format", "{{.Size}}", image))


def _pip_configuration(folder: Path) -> list[str]:
    """Options that give builds this machine's configuration of pip, local indexes included."""
    listed = run("python3", "-m", "pip", "config", "list")
    values = dict(line.split("=", 1) for line in listed.splitlines())
    lines, paths = ["[global]"], set()
    for name, quoted in sorted(values.items(), key=lambda item: item[0].startswith(":env:")):
        value = quoted.strip("'")
        lines.append(f"{name.rpartition('.')[2]} = {value}")
        words = (word.removeprefix("file://") for word in value.split())
        paths |= {word.removesuffix("/simple") for word in words if word.startswith("/")}
    own = folder / "pip.conf"
    own.write_text("\n".join(dict.fromkeys(lines)) + "\n")
    mounts = [f"--volume={path}:{path}:ro" for path in sorted(paths) if Path(path).exists()]
    return [*mounts, f"--volume={own}:/etc/pip.conf:ro"]


class Container:
    """A server in a container with a read-only root, no capabilities, and tasks in ``volume``."""

    def __init__(self, image: str, volume: Path, env: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.name = f"docling-serve-test-{self.mark[:8]}"
        self._port = HeldPort()
        self.api = Api(f"http://127.0.0.1:{self._port.number}")
        self._image = image
        self._volume = volume
        self._env = {
            processes.MARK: self.mark,
            "UVICORN_HOST": "127.0.0.1",
            "UVICORN_PORT": str(self._port.number),
            **env,
        }
        volume.mkdir(exist_ok=True)
        os.chown(volume, USER, 0)

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            print(self.log()[-6000:])
        self.remove()
        self.api.http.close()
        self._port.release()

    def start(self) -> None:
        """Run it, and wait until its own health check passes."""
        files = min(16384, psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[1])
        env = [f"--env={name}={value}" for name, value in self._env.items()]
        podman(
            *("run", "--detach", "--name", self.name, "--network=host", "--cgroups=disabled"),
            *("--no-healthcheck", "--read-only", "--cap-drop=all"),  # run by hand: no systemd here
            *("--security-opt=no-new-privileges", "--tmpfs=/tmp:mode=1777"),
            *(f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4096:4096"),
            *(f"--volume={self._volume}:/var/lib/docling-serve", *env, self._image),
        )
        eventually(self.healthy, within_s=START_LIMIT_S, what=self.log, every_s=1)

    def healthy(self) -> bool:
        """Whether the health check of the image passes."""
        inspected = run("podman", "image", "inspect", self._image)
        check: Sequence[str] = json.loads(inspected)[0]["Healthcheck"]["Test"]
        assert check[0] == "CMD"
        try:
            self.execute(*check[1:])
        except AssertionError:
            assert self.processes(), f"it ended\n{self.log()}"
            return False
        return True

    def execute(self, *command: str) -> str:
        """The output of a command in it that succeeds."""
        return podman("exec", self.name, *command)

    def processes(self) -> list[psutil.Process]:
        """Its processes, as the host sees them."""
        return processes.marked(self.mark)

    def server(self) -> psutil.Process:
        """The server's own process, the child of tini."""
        [found] = [
            p
            for p in self.processes()
            if "docling-serve run" in " ".join(p.cmdline()) and "tini" not in p.cmdline()[0]
        ]
        return found

    def end(self, number: signal.Signals) -> int:
        """Send the server a signal, and wait for the end of the container; its exit code."""
        self.server().send_signal(number)
        code = int(podman("wait", self.name, limit_s=STOP_LIMIT_S))
        eventually(lambda: not self.processes(), within_s=STOP_LIMIT_S, what="nothing is left")
        return code

    def log(self) -> str:
        """What it wrote."""
        done = subprocess.run(
            ["podman", "logs", self.name], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def remove(self) -> None:
        """Kill it if it runs, and remove it. Its volume stays."""
        podman("rm", "--force", "--time=0", "--ignore", self.name)
