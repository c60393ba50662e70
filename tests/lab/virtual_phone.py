"""A phone to test against: Android's real debug daemon and shell, in folders that look like a phone's.

The daemon (adbd), the adb server and the phone's programs run in namespaces of their own, so nothing of it
is on any network of the host, and a phone that is really attached is not seen. The server is reached by a
Unix socket. Needs tests/lab/install-adb.sh and a kernel that lets a user make namespaces; `missing` says
what is not there.

Everything it says of itself is made up, and it says so: `ro.mobile_accelerator.simulated`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.phone import Phone, Server, choose
from tools.stage import StageError

HERE = Path(__file__).parent / "phone"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ADB = CACHE / "mobile-accelerator" / "lab" / "adb"
PORT = 7555  # not 5555, where an adb server looks for emulators by itself
SERIAL = f"127.0.0.1:{PORT}"
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]

PROPERTIES = {
    "ro.build.version.release": "12",
    "ro.build.version.sdk": "31",
    "ro.board.platform": "msmnile",
    "ro.hardware": "qcom",
    "ro.mobile_accelerator.simulated": "the virtual phone of the tests",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.product.manufacturer": "Example",
    "ro.product.model": "Virtual 4",
    "ro.soc.model": "SM8150",
}
CLUSTERS = {"0 1 2 3": 1785600, "4 5 6": 2419200, "7": 2841600}  # a Snapdragon 855's
ZONES = {"cpu-0-0-usr": 31500, "cpu-1-3-usr": 33000, "battery": 28000, "pm8150_tz": -40000}
DUMPS = {
    "battery": """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 2
  health: 2
  present: true
  level: 83
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
""",
    "power": "Power Manager State:\n  mWakefulness=Asleep\n  mStayOn=false\n",
    "window": "    mDreamingLockscreen=true mTopFullscreenOpaqueWindowState=null\n",
    "thermalservice": """IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
Temperature{mValue=99.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=36.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=29.1, mType=3, mName=skin, mStatus=0}
\tTemperature{mValue=4300.0, mType=6, mName=vbat, mStatus=0}
Current cooling devices from HAL:
""",
}
SETTINGS = {"global/airplane_mode_on": "0", "system/screen_off_timeout": "30000"}


def missing() -> str:
    """What keeps this host from having one, '' if nothing does."""
    if not (ADB / "complete.2").exists():
        return "no adbd here: tests/lab/install-adb.sh"
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        return "this kernel lets users make no namespaces"
    return ""


class VirtualPhone:
    """A running one. `programs` is a folder on its PATH, for stand-ins of what a phone's maker puts there."""

    def __init__(self, folder: Path, data_mb: int = 512) -> None:
        self.folder = folder
        self.data_mb = data_mb
        self.programs = folder / "vendor" / "bin"
        self.server = Server(f"localfilesystem:{folder}/adb.socket")
        lay_out(folder)

    def __enter__(self) -> VirtualPhone:
        argv = [
            *UNSHARE,
            "sh",
            str(HERE / "boot.sh"),
            str(self.folder),
            str(ADB),
            str(self.data_mb),
            str(PORT),
        ]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self._wait_until_there()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()

    @property
    def phone(self) -> Phone:
        """What a tool has of it."""
        return choose("", self.server)

    def write(self, path: str, text: str) -> None:
        """Write a file of its /sys, /system or /vendor, e.g. a temperature."""
        target = self.folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def read(self, path: str) -> str:
        """Read a file of its /sys, /system or /vendor."""
        return (self.folder / path.lstrip("/")).read_text()

    def heat(self, degc: float) -> None:
        """Set the temperature of its CPU."""
        for number, zone in enumerate(ZONES):
            if "cpu" in zone:
                self.write(f"/sys/class/thermal/thermal_zone{number}/temp", f"{round(1000 * degc)}\n")

    def unplug(self) -> None:
        """Let the connection drop; what runs on the phone goes on."""
        self._tell("stop")

    def plug(self) -> None:
        """Let the phone be there again."""
        self._tell("start")

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def _wait_until_there(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                self.server.ask(f"host:connect:{SERIAL}")
                choose("", self.server)
            except StageError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return


def lay_out(folder: Path, adb: Path = ADB) -> None:
    """Write a phone's /system, /vendor and /sys into a folder; `adb` is what install-adb.sh unpacked."""

    def write(path: str, text: str) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    _install(folder / "system" / "bin", adb)
    (folder / "vendor" / "bin").mkdir(parents=True)
    write("vendor/etc/properties", "".join(f"[{k}]: [{v}]\n" for k, v in PROPERTIES.items()))
    for name, text in DUMPS.items():
        write(f"vendor/etc/dumpsys/{name}", text)
    for name in ("global", "system"):
        (folder / "vendor" / "etc" / "settings" / name).mkdir(parents=True)
    for name, value in SETTINGS.items():
        write(f"vendor/etc/settings/{name}", f"{value}\n")
    for number, (zone, value) in enumerate(ZONES.items()):
        write(f"sys/class/thermal/thermal_zone{number}/type", f"{zone}\n")
        write(f"sys/class/thermal/thermal_zone{number}/temp", f"{value}\n")
    write("sys/devices/system/cpu/possible", "0-7\n")
    for cpus, khz in CLUSTERS.items():
        for cpu in cpus.split():
            frequencies = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
            write(f"{frequencies}/related_cpus", f"{cpus}\n")
            write(f"{frequencies}/scaling_governor", "schedutil\n")
            write(f"{frequencies}/scaling_min_freq", "300000\n")
            write(f"{frequencies}/scaling_max_freq", f"{khz}\n")
            write(f"{frequencies}/cpuinfo_max_freq", f"{khz}\n")


def _install(folder: Path, adb: Path) -> None:
    """Fill the phone's folder of programs."""
    folder.mkdir(parents=True)
    shutil.copy(adb / "bin" / "mksh", folder / "sh")
    shutil.copy(adb / "bin" / "toybox", folder / "toybox")
    shutil.copy(adb / "usr" / "bin" / "original-awk", folder / "awk")  # since Android 9
    for applet in subprocess.check_output([str(folder / "toybox")], text=True).split():
        if applet != "su" and not (folder / applet).exists():
            (folder / applet).symlink_to("toybox")
    for stub in (HERE / "bin").iterdir():
        (folder / stub.name).unlink(missing_ok=True)
        shutil.copy(stub, folder / stub.name)


def variables() -> dict[str, str]:
    """What makes `adb` of the lab the one that a program finds."""
    (libraries,) = (ADB / "usr" / "lib").glob("*-linux-gnu")
    return {
        "PATH": f"{ADB / 'usr/lib/android-sdk/platform-tools'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{libraries}:{libraries / 'android'}",
    }


if __name__ == "__main__":
    lay_out(*map(Path, sys.argv[1:]))
