"""A board to test against: a real sshd on loopback, and folders that look like a Jetson's.

Whoever logs in gets a home of the board's own, stand-ins of NVIDIA's programs first on PATH, and the variable
that names the folder with its /etc, /proc and /sys, by which all that it says is known as simulated. Docker
is the stand-in of `board/bin`; with `docker=True` it is this host's own, and sshd is in a container. A relay
in front of it can count, hold and cut what passes.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from host.board.facts import ROOT
from host.docker_cli import builder, client
from host.engines.venv import environment
from host.images import OFFLINE_BASE
from host.version import VERSION
from tools.stage import Unavailable
from tools.usb import SIMULATED_HOST

HERE = Path(__file__).parent / "board"
SFTP = "/usr/lib/openssh/sftp-server"
TX2 = {
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref, EABI: aarch64, "
    "DATE: Sat Feb 19 17:07:00 UTC 2022\n",
    "etc/sudoers.d/user": "nopasswd\n",
    "etc/docker/runtimes": '["io.containerd.runc.v2", "nvidia", "runc"]\n',
    "proc/device-tree/model": "NVIDIA Jetson TX2 Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p2771-0000\0nvidia,tegra186\0",
    "proc/loadavg": "0.31 0.20 0.09 1/301 7712\n",
    "proc/meminfo": "MemTotal:        8036212 kB\nMemFree:         5500000 kB\n",
    "var/lib/dpkg/packages": "nvidia-jetpack 4.6.1-b110\ntensorrt 8.2.1.9-1+cuda10.2\n",
    "nvpmodel": "0\n",
    "sys/class/devfreq/17000000.gp10b/governor": "nvhost_podgov\n",
    "sys/class/devfreq/17000000.gp10b/min_freq": "114750000\n",
    "sys/class/devfreq/17000000.gp10b/cur_freq": "140250000\n",
    "sys/class/devfreq/17000000.gp10b/max_freq": "1300500000\n",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "0\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "gpu-balanced\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
}
AVERAGE_S = 0.02  # over which a monitor averages
ZONES = {"BCPU-therm": 41000, "GPU-therm": 39500, "PMIC-Die": 100000, "CV0-therm": -256000}
RAILS = {  # facts: TX2 of L4T 32, i2c address -> rails in the order of their channels
    "0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"),
    "0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
}


def missing() -> str:
    """What keeps this host from having one, '' if nothing does."""
    wanted = {"sshd": "openssh-server", "ssh": "openssh-client"}
    path = f"{os.environ['PATH']}:/usr/sbin"
    lacking = [package for name, package in wanted.items() if not shutil.which(name, path=path)]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


class VirtualBoard:
    """A running one. `destination` is what --device takes; a program finds the way by `variables`."""

    def __init__(self, folder: Path, *, docker: bool = False) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.cache = self.home / ".cache" / "mobile-accelerator"
        self.root = folder / "root"
        self.log = folder / "sshd.log"
        self._docker = docker
        self._monitors = "sys/bus/i2c/drivers/ina3221x"
        self._lay_out()

    def __enter__(self) -> VirtualBoard:
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if sshd is None:
            message = missing()
            raise Unavailable(message)
        self._port = _free_port()
        self._configure()
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd as root wants it
        with self.log.open("a") as log:
            argv = [*self._container(), sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._sshd = subprocess.Popen(argv, stderr=log, start_new_session=True)
        self.relay = Relay(self._port)
        self.relay.start()
        self.known_hosts({self.relay.port, self._port})
        self._wait_until_there()
        return self

    def __exit__(self, *_: object) -> None:
        self.relay.stop()
        if self._docker:
            argv = [client(), "rm", "--force", self._name]
            subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._sshd.pid, signal.SIGKILL)
        self._sshd.wait()

    @property
    def destination(self) -> str:
        """Where it is, by the relay."""
        return f"{getpass.getuser()}@127.0.0.1:{self.relay.port}"

    @property
    def direct(self) -> str:
        """Where it is, with nothing in between."""
        return f"{getpass.getuser()}@127.0.0.1:{self._port}"

    @property
    def variables(self) -> Mapping[str, str]:
        """What makes the user's ssh one with a configuration of the lab's."""
        return {"PATH": f"{self.folder / 'client'}:{os.environ['PATH']}"}

    def write(self, path: str, text: str) -> None:
        """Write a file of the board; who reads it meanwhile sees the old one or the new one."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        part.write_text(text)
        part.replace(target)

    def read(self, path: str) -> str:
        """Read a file of the board."""
        return (self.root / path).read_text()

    def add_image(self, name: str, command: list[str], l4t: str = "") -> None:
        """Give the stand-in for Docker an image, whose containers run `command` in their work folder."""
        image = {"id": f"sha256:{name}", "command": command, "l4t": l4t}
        self.write(f"images/{name.replace('/', '_').replace(':', '_')}", json.dumps(image))

    def containers(self) -> list[str]:
        """Names of the stand-in's containers that run."""
        return [path.name for path in (self.root / "containers").glob("*")]

    def change_host_key(self) -> None:
        """Let known_hosts have another key than the board's."""
        _keygen(self.folder / "other_key")
        self.known_hosts({self.relay.port, self._port}, "other_key")

    def known_hosts(self, ports: set[int], key: str = "host_key") -> None:
        """Write known_hosts; without ports the board is not known."""
        words = " ".join((self.folder / f"{key}.pub").read_text().split()[:2])
        lines = [f"[127.0.0.1]:{port} {words}\n" for port in ports]
        (self.folder / "known_hosts").write_text("".join(lines))

    def _lay_out(self) -> None:
        self.home.mkdir(parents=True)
        for path, text in TX2.items():
            self.write(path, text)
        for number, (zone, value) in enumerate(ZONES.items()):
            self.write(f"sys/class/thermal/thermal_zone{number}/type", f"{zone}\n")
            self.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{value}\n")
        for cpu in range(6):
            folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
            self.write(f"{folder}/scaling_governor", "schedutil\n")
            for what, khz in (("min", 345600), ("cur", 806400), ("max", 2035200)):
                self.write(f"{folder}/scaling_{what}_freq", f"{khz}\n")
        for address, rails in RAILS.items():
            for channel, rail in enumerate(rails):
                self.write(f"{self._monitor(address)}/rail_name_{channel}", f"{rail}\n")
        self.move_rails(1.0)
        shutil.copytree(HERE / "bin", self.folder / "bin")
        if self._docker:
            (self.folder / "bin" / "docker").unlink()
            (self.folder / "bin" / "docker").symlink_to(builder())

    def move_rails(self, factor: float) -> None:
        """Set every rail's current to its usual one times `factor`."""
        for address, rails in RAILS.items():
            for channel, rail in enumerate(rails):
                folder = self._monitor(address)
                usual_ma = (
                    200 if rail == "VDD_IN" else 10 * (int(address) - 39 + channel)
                )  # it has the others
                ma = round(factor * usual_ma)
                self.write(f"{folder}/in_voltage{channel}_input", "19152\n")
                self.write(f"{folder}/in_current{channel}_input", f"{ma}\n")
                self.write(f"{folder}/in_power{channel}_input", f"{ma * 19152 // 1000}\n")

    def hide_monitors(self) -> None:
        """Be a board whose rails only tegrastats knows: the kernel's files are where that alone looks."""
        before, self._monitors = self._monitors, "sys/kernel/monitors"
        (self.root / "sys/kernel").mkdir(exist_ok=True)
        (self.root / before).rename(self.root / self._monitors)
        (self.root / "usr/bin").mkdir(parents=True)
        shutil.copy(HERE / "tegrastats", self.root / "usr/bin")

    def _monitor(self, address: str) -> str:
        return f"{self._monitors}/0-{address}/iio:device{int(address) - 40}"

    @contextlib.contextmanager
    def rails_that_follow(self, load: Path, factors: Mapping[str, float]) -> Iterator[None]:
        """Move the rails with what the file `load` says goes on, which `factors` has a factor for.

        What is `computing` is said anew by each inference, and over when none was for AVERAGE_S.
        """
        ended = threading.Event()

        def follow() -> None:
            before = 0.0
            while not ended.wait(0.002):
                what = load.read_text() if load.exists() else ""
                if what == "computing" and time.time() - load.stat().st_mtime > AVERAGE_S:
                    what = ""
                factor = factors.get(what, 1.0)
                if factor != before:
                    self.move_rails(factor)
                    before = factor

        mover = threading.Thread(target=follow, daemon=True)
        mover.start()
        yield
        ended.set()
        mover.join()

    def _configure(self) -> None:
        for key in ("host_key", "identity"):
            _keygen(self.folder / key)
        login = self.folder / "login"
        login.write_text('#!/bin/sh\nunset XDG_CACHE_HOME\ncd && exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
        login.chmod(0o755)
        settings = {
            "Port": self._port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "identity.pub",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "yes",
            "Subsystem": f"sftp {SFTP}",
            "ForceCommand": login,
            # at once, because a shell reads the .bashrc of its home before it does what it is told to
            "SetEnv": " ".join(f"{name}={value}" for name, value in self._environment().items()),
        }
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        (self.folder / "sshd_config").write_text(text)
        client = self.folder / "client"
        client.mkdir(exist_ok=True)
        (client / "config").write_text(
            f"Host *\nIdentityFile {self.folder}/identity\nIdentitiesOnly yes\nStrictHostKeyChecking yes\n"
            f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile none\n"
        )
        (client / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {client}/config "$@"\n')
        (client / "ssh").chmod(0o755)

    @property
    def _name(self) -> str:
        return f"virtual-board-{self._port}"

    def _container(self) -> list[str]:
        """Return the beginning of a command line that runs in a container, if the board is to be one.

        Its programs and users are this host's, so that no image with an sshd has to be built; what it mounts
        into the containers that it starts has the same path here, because the engine is this host's too.
        """
        if not self._docker:
            return []
        seen = ["/usr:/usr:ro", "/etc/passwd:/etc/passwd:ro", "/etc/group:/etc/group:ro"]
        seen += [f"{path}:{path}" for path in (self.folder, self._docker_config(), "/run/docker.sock")]
        volumes = [f"--volume={each}" for each in seen]
        settings = ["--rm", "--network=host", f"--name={self._name}", "--tmpfs=/run/sshd:mode=755"]
        return [client(), "run", *settings, *volumes, f"{OFFLINE_BASE}:bookworm"]

    def _docker_config(self) -> Path:
        """Return the folder of the client's plug-ins, of which the builder is one."""
        return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")

    def _environment(self) -> Mapping[str, object]:
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        found: dict[str, object] = {"HOME": self.home, ROOT: self.root, "PATH": path}
        if self._docker:
            found["DOCKER_CONFIG"] = self._docker_config()
        return found

    def _wait_until_there(self) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end and self._sshd.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.05)
        self.__exit__()
        message = f"sshd did not start: {self.log.read_text()[-300:]}"
        raise Unavailable(message)


class Relay:
    """Passes connections on to the board; counts, holds and cuts what passes."""

    def __init__(self, target: int) -> None:
        self.passed_bytes = 0
        self.carried_bytes = 0  # of them to the board
        self._cut_at = 0
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        self._guard = threading.Lock()
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def start(self) -> None:
        """Listen."""
        serve = self._server.serve_forever
        threading.Thread(target=serve, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Cut all, and listen no more."""
        self._flows.set()
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    def cut(self) -> None:
        """End all connections, as a board does that restarts."""
        with self._guard:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def cut_after(self, passed_bytes: int) -> None:
        """End all connections, once, when so many more bytes have passed."""
        self._cut_at = self.passed_bytes + passed_bytes

    def hold(self) -> None:
        """Let nothing pass, and end nothing, as a cable does that is pulled."""
        self._flows.clear()

    def release(self) -> None:
        """Let all pass again."""
        self._flows.set()

    def _serve(self, client: socket.socket) -> None:
        try:
            board = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            return
        with self._guard:
            self._open += [client, board]
        back = threading.Thread(target=self._pass_on, args=(board, client, False), daemon=True)
        back.start()
        self._pass_on(client, board, True)
        back.join()
        board.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, carries: bool) -> None:
        with contextlib.suppress(OSError):
            for piece in iter(lambda: source.recv(1 << 20), b""):
                self._flows.wait()
                self.passed_bytes += len(piece)
                self.carried_bytes += len(piece) * carries
                if 0 < self._cut_at < self.passed_bytes:
                    self._cut_at = 0
                    self.cut()
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def python_image(tool: str, python: Path, *settings: str) -> list[str]:
    """Return the command of an image of the stand-in for Docker: a tool of this checkout.

    `settings` are variables of its environment, `NAME=value`.
    """
    from host import ROOT as CHECKOUT

    variables = [f"PYTHONPATH={CHECKOUT}", "PYTHONUNBUFFERED=1", *settings]
    return ["env", *variables, str(python), "-m", f"tools.{tool}"]


def tensorrt_image(folder: Path, python: Path, *settings: str) -> list[str]:
    """Return the command of an image of TensorRT's tool with the stand-in for trtexec, put into `folder`."""
    program = folder / "trtexec"
    program.write_text(f'#!/bin/sh\nexec {python} {HERE.parent / "trtexec.py"} "$@"\n')
    program.chmod(0o755)
    return python_image("tensorrt", python, f"MOBILE_ACCELERATOR_TRTEXEC={program}", *settings)


def meters_image(root: Path, python: Path, *settings: str) -> list[str]:
    """Return the command of an image of the meters' tool, which sees the files of the board at `root`."""
    return python_image("meters", python, f"{SIMULATED_HOST}={root}", *settings)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _keygen(path: Path) -> None:
    if not path.exists():
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def main() -> None:
    """Be a board until standard input ends: a TX2 with two images, or with --docker a real engine."""
    parser = argparse.ArgumentParser(description="A board to try --device with, on this machine.")
    parser.add_argument("folder", type=Path, help="where its files are to be; it must not be there yet")
    parser.add_argument("--docker", action="store_true", help="with this host's own Docker and its images")
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    with VirtualBoard(folder, docker=asked.docker) as lab:
        image = tensorrt_image(folder, environment("tensorrt", print))
        lab.add_image(f"mobile-accelerator/tensorrt-l4t:{VERSION}", image)
        meters = meters_image(lab.root, environment("meters", print))
        lab.add_image(f"mobile-accelerator/meters:{VERSION}", meters)
        run = "python runner.py all --model squeezenet --backend tensorrt"
        print(f"PATH={folder}/client:$PATH {run} --device {lab.destination}")
        print("It is there until you press Ctrl-D.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
