"""What a board is: model, chip, L4T, TensorRT, memory, and its Docker engine."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from host.board.ssh import Connection, Destination
from tools.shell_output import sections
from tools.stage import StageError, Unavailable

# Where a stand-in for a board has its files, and so the sign that it is one; unset on a board.
ROOT = "MOBILE_ACCELERATOR_SIMULATED_BOARD"
# chip (the device tree's `compatible`) -> CUDA compute capability of its GPU, by NVIDIA's list
# (developer.nvidia.com/cuda-gpus; Thor's is 11.0 since CUDA 13)
COMPUTE_CAPABILITIES = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
    "tegra264": "11.0",
}

READ = f"""
root=${ROOT}
echo "@@ simulated"; echo "$root"
echo "@@ model"; tr -d '\\0' <"$root/proc/device-tree/model"; echo
echo "@@ compatible"; tr '\\0' '\\n' <"$root/proc/device-tree/compatible"
echo "@@ release"; head -n 1 "$root/etc/nv_tegra_release"
echo "@@ packages"
dpkg-query --show --showformat '${{Package}} ${{Version}}\\n' nvidia-jetpack tensorrt libnvinfer8 libnvinfer10
echo "@@ memory"; grep MemTotal "$root/proc/meminfo"
echo "@@ machine"; uname -m
echo "@@ tegrastats"
for file in "$root"/usr/bin/tegrastats "$root"/home/*/tegrastats; do [ -x "$file" ] && echo "$file"; done
echo "@@ docker"
docker info --format 'is {{{{json .ServerVersion}}}} {{{{json .DefaultRuntime}}}} {{{{json .Runtimes}}}}' 2>&1
exit 0
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """A board. Texts are empty, and `memory_mb` (10^6 bytes) is None, where it does not tell.

    Attributes:
        l4t: the release of NVIDIA's Linux for it, e.g. 32.7.1.
        tensorrt: what is installed on the board itself; on JetPack 5 and later it is in the image instead.
        docker: version of its Docker engine; `docker_problem` is the client's word where there is none.
        runtimes: the engine's, the default one first.
        tegrastats: where NVIDIA's program of that name is.
        simulated: the folder that stands in for its files, "" for a real board.
    """

    model: str
    chip: str
    compute_capability: str
    l4t: str
    jetpack: str
    tensorrt: str
    machine: str
    memory_mb: int | None
    docker: str
    docker_problem: str
    runtimes: tuple[str, ...]
    tegrastats: str
    simulated: str

    @property
    def identity(self) -> str:
        """What an engine that was built there depends on, besides the image: part of the store's keys."""
        parts = (self.model, self.chip, self.compute_capability, self.l4t, self.tensorrt, self.machine)
        return " ".join(part or "-" for part in parts)

    def record(self) -> dict[str, Any]:
        """Return what a record says of the board."""
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del said["docker_problem"], said["tegrastats"], said["simulated"]
        return {**said, "runtimes": list(self.runtimes)}

    def docker_error(self, destination: Destination, runtime: str | None = None) -> Unavailable | None:
        """Return why the board cannot run containers, by `runtime` if one is named; None if it can."""
        where = destination.text
        if not self.docker:
            problem = self.docker_problem
            hint = "Install it there: sudo apt-get install docker.io"
            if "permission denied" in problem.lower():
                add = "'sudo usermod -aG docker $USER'"
                hint = f"Let the user have it: {destination.by_hand} {add}, and log in anew"
            elif "Cannot connect" in problem:
                hint = "Start it there: sudo systemctl start docker"
            return Unavailable(f"no Docker engine answers on {where}: {problem}", hint=hint)
        if runtime and runtime not in self.runtimes:
            names = ", ".join(self.runtimes)
            message = f"the Docker engine on {where} has no runtime {runtime!r} (it has {names})"
            hint = (
                "Install it there, and start docker anew: sudo apt-get install nvidia-container-toolkit "
                "(JetPack 4: nvidia-docker2)"
            )
            return Unavailable(message, hint=hint)
        return None


def read(connection: Connection) -> Facts:
    """Ask a board what it is."""
    return parse(connection.run(READ).check("looking at it"))


def parse(text: str) -> Facts:
    """Return the facts in the output of `READ`.

    Raises:
        StageError: it is none.
    """
    parts = sections(text)
    if "docker" not in parts:
        message = f"the board's answer cannot be read: {text[:100]!r}"
        raise StageError(message, hint="Does its shell print something at login? It must be silent for ssh.")
    chip = next((chip for chip in COMPUTE_CAPABILITIES if f"nvidia,{chip}" in parts["compatible"]), "")
    packages = dict(re.findall(r"^(\S+) (\S+)$", parts["packages"], re.MULTILINE))
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", parts["release"])
    l4t = f"{release[1]}.{release[2]}" if release else ""
    memory = re.search(r"(\d+) kB", parts["memory"])
    docker, runtimes = _docker(parts["docker"])
    nvinfer = packages.get("libnvinfer10") or packages.get("libnvinfer8") or ""
    return Facts(
        model=parts["model"].strip() or f"unknown board ({parts['machine'].strip()})",
        chip=chip,
        compute_capability=COMPUTE_CAPABILITIES.get(chip, ""),
        l4t=l4t,
        jetpack=packages.get("nvidia-jetpack", ""),
        tensorrt=(packages.get("tensorrt") or nvinfer).partition("-")[0],
        machine=parts["machine"].strip(),
        memory_mb=int(memory[1]) * 1024 // 10**6 if memory else None,
        docker=docker,
        docker_problem="" if docker else " ".join(parts["docker"].split())[:300].rstrip(".?"),
        runtimes=runtimes,
        tegrastats=parts["tegrastats"].partition("\n")[0].strip(),
        simulated=parts["simulated"].strip(),
    )


def _docker(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the engine's version and its runtimes, the default one first; "" where none answered."""
    match = re.search(r"^is (.+)$", text, re.MULTILINE)
    if match is None:
        return "", ()
    decoder, values, rest = json.JSONDecoder(), [], match[1]
    while rest := rest.strip():
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:]
    version, default, runtimes = values
    names = [default, *sorted(set(runtimes or {}) - {default})] if default else []
    return version or "", tuple(names)
