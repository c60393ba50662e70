"""A machine with a USB bus of its own: Debian's kernel in QEMU, the host's files, and one program.

A build host, a container and a CI runner often have no USB at all. In the guest the kernel's `dummy_hcd` is
both ends of a cable: a program can be a USB device (tests/lab/usb/gadget.py), and libusb, udev and Docker
meet it as any other. The processor is emulated, as hardware acceleration hangs where the host is itself a
virtual machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import platformdirs

HERE = Path(__file__).parent
MODULES = (  # of Debian 12's kernel, in the order in which they depend on each other
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay"),
    *("usb-common", "usbcore", "udc-core", "dummy_hcd", "gadgetfs"),
)
MEMORY_MB = 3072
CACHE = platformdirs.user_cache_path("mobile-accelerator") / "usb-lab"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program in the guest ended. `code` is None if the time limit ended it."""

    code: int | None
    output: str


@dataclasses.dataclass(frozen=True)
class Guest:
    """A kernel and its first files. Each `run` boots it anew, so nothing of one run is there in the next."""

    kernel: Path
    initramfs: Path

    @classmethod
    def make(cls, folder: Path) -> Guest:
        """Put the initramfs into `folder`; the kernel comes from Debian's archive on first use."""
        kernel = _kernel()
        tree = folder / "initramfs"
        for name in ("bin", "modules", "host", "memory", "root", "proc", "sys", "dev"):
            (tree / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin")
        shutil.copy(HERE / "init.sh", tree / "init")
        (tree / "init").chmod(0o755)
        for number, name in enumerate(MODULES):
            shutil.copy(kernel / f"{name}.ko", tree / "modules" / f"{number:02d}-{name}.ko")
        archive = folder / "initramfs.cpio"
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        with archive.open("wb") as file:
            cpio = ["cpio", "--create", "--format=newc", "--quiet"]
            subprocess.run(cpio, cwd=tree, input=names.encode(), stdout=file, check=True)
        return cls(kernel / "vmlinuz", archive)

    def run(self, *argv: str, shared: Path, limit_s: float, cwd: Path) -> Outcome:
        """Boot, run a program as root, switch off.

        The guest sees the host's files as the caller does. What it writes is gone with it, but for
        `shared`, a folder that has the same path in both (without a space). It has a /tmp and a /run of its
        own.
        """
        if {Path("/tmp"), Path("/run")} & {*cwd.parents} and shared not in (cwd, *cwd.parents):
            message = f"{cwd} is not there in the guest, which has a /tmp and a /run of its own"
            raise RuntimeError(message)
        (shared / "program").write_text(f"cd {shlex.quote(str(cwd))}\nexec {shlex.join(argv)}\n")
        console, code, output = shared / "console.txt", shared / "code", shared / "output"
        machine = subprocess.Popen(self._qemu(shared, console), stdin=subprocess.DEVNULL)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.wait(limit_s)
        finally:
            machine.kill()
            machine.wait()
        if not output.exists():
            message = f"the guest did not start its program: {console.read_text(errors='replace')}"
            raise RuntimeError(message)
        text = output.read_text(errors="replace")
        return Outcome(int(code.read_text()) if code.exists() else None, text)

    def _qemu(self, shared: Path, console: Path) -> list[str]:
        def folder(path: Path, tag: str, options: str) -> str:
            return f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{options}"

        return [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1"),
            *("-m", str(MEMORY_MB), "-display", "none", "-nic", "none", "-no-reboot"),
            *("-serial", f"file:{console}", "-monitor", "none"),
            *("-kernel", str(self.kernel), "-initrd", str(self.initramfs)),
            *("-append", f"console=ttyS0 quiet panic=-1 cryptomgr.notests SHARED={shared}"),
            *("-virtfs", folder(Path("/"), "host", ",readonly=on")),
            *("-virtfs", folder(shared, "shared", "")),
        ]


def debian_package(name: str) -> Path:
    """Return a package of this Debian as a file, which its archive has on first use; it is not installed."""
    path = CACHE / f"{name}.deb"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as part:
            Path(part).chmod(0o755)  # apt downloads as a user of its own
            subprocess.run(["apt-get", "download", "--quiet", name], cwd=part, check=True)
            [deb] = Path(part).iterdir()
            deb.rename(path)
    return path


def _kernel() -> Path:
    """Return the cached folder with `vmlinuz` and MODULES of the kernel that this Debian installs."""
    shown = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", "linux-image-amd64"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    package = re.search(r"linux-image-[\d.]+-\d+-amd64", shown)
    assert package, shown
    folder = CACHE / package[0]
    if not folder.exists():
        deb = debian_package(package[0])
        with tempfile.TemporaryDirectory(dir=CACHE) as part:
            unpacked = Path(part) / "kernel"
            unpacked.mkdir()
            _unpack(deb, unpacked)
            unpacked.rename(folder)
    return folder


def _unpack(deb: Path, folder: Path) -> None:
    wanted = {f"{name}.ko" for name in MODULES}
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as dpkg,
        tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive,
    ):
        for member in archive:
            name = "vmlinuz" if Path(member.name).name.startswith("vmlinuz-") else Path(member.name).name
            if name == "vmlinuz" or name in wanted:
                source = archive.extractfile(member)
                assert source
                (folder / name).write_bytes(source.read())
    if missing := (wanted | {"vmlinuz"}) - {path.name for path in folder.iterdir()}:
        message = f"{deb.name} has no {', '.join(sorted(missing))}"
        raise RuntimeError(message)
