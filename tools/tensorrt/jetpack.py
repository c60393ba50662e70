"""What goes with which JetPack: its L4T, TensorRT, Python, and an image of NVIDIA's that has them.

L4T and JetPack: rbonghi/jetson_stats, jtop/core/jetson_variables.py. TensorRT: NVIDIA's pages of JetPack
(4.6 to 6.2). Images: tags of nvcr.io as public Dockerfiles name them; none of them was ever pulled or run
here.

On JetPack 4 the image is thin: CUDA and TensorRT come from the board, by the NVIDIA runtime, which mounts
what /etc/nvidia-container-runtime/host-files-for-container.d lists. Its TensorRT bindings are for Python
3.6, too old for these tools (3.7); so there trtexec is used, and Python 3.8 comes from Ubuntu's `universe`.
JetPack 7 (L4T 38) has no image of this kind that is known here.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Optional

from tools.stage import Unavailable


@dataclasses.dataclass(frozen=True)
class JetPack:
    """One JetPack.

    Attributes:
        name: its versions.
        l4t: the first version of its L4T, (major, minor).
        tensorrt: the version that it comes with.
        base: NVIDIA's image.
        python: the version that the tool's build for it has; that of Ubuntu is `system_python`.
        build: the tool's build for it; "" where none can be made.
    """

    name: str
    l4t: tuple[int, int]
    tensorrt: str
    base: str
    python: str
    system_python: str
    build: str

    @property
    def service(self) -> str:
        """The service in compose.yaml that runs the tool there."""
        return f"tensorrt-{self.build}"


JETPACKS = (
    JetPack("4.6", (32, 6), "8.0.1", "nvcr.io/nvidia/l4t-tensorrt:r8.0.1-runtime", "3.8", "3.6", "l4t"),
    JetPack(
        "4.6.1 to 4.6.6", (32, 7), "8.2.1", "nvcr.io/nvidia/l4t-tensorrt:r8.2.1-runtime", "3.8", "3.6", "l4t"
    ),
    JetPack("5.1", (35, 2), "8.5.2", "nvcr.io/nvidia/l4t-tensorrt:r8.5.2.2-devel", "3.8", "3.8", "l4t"),
    JetPack("6.0", (36, 3), "8.6.2", "nvcr.io/nvidia/l4t-tensorrt:r8.6.2-devel", "3.10", "3.10", "l4t310"),
    JetPack(
        "6.1 and 6.2",
        (36, 4),
        "10.3.0",
        "nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel",
        "3.10",
        "3.10",
        "l4t310",
    ),
)
RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+)(?:\.(\d+))?")


def l4t_version(text: str) -> Optional[tuple[int, int]]:
    """Return (major, minor) of what /etc/nv_tegra_release says, None if it says none.

    Its first line is `# R32 (release), REVISION: 7.1, GCID: ..., BOARD: t186ref, ...`.
    """
    match = RELEASE.search(text)
    return (int(match[1]), int(match[2])) if match else None


def board_build(l4t: str) -> tuple[str, str]:
    """Return the tool's build for a board of an L4T like `32.7.1`, and the base of its image.

    Both are "", the usual ones, where there is none: a PC.

    Raises:
        Unavailable: no image of NVIDIA's for it is known.
    """
    if not l4t:
        return "", ""
    major, minor = (int(number) for number in l4t.split(".")[:2])
    found = for_l4t((major, minor))
    if found is None:
        known = ", ".join(".".join(map(str, each.l4t)) for each in JETPACKS)
        message = f"no image with TensorRT is known for the board's L4T {l4t}"
        raise Unavailable(message, hint=f"Known are those from {known} on: docs/jetson.md")
    return found.build, found.base


def for_l4t(version: tuple[int, int]) -> Optional[JetPack]:
    """Return the JetPack of an L4T: the newest of its major version that is not newer; None if none is."""
    found = [each for each in JETPACKS if each.l4t[0] == version[0] and each.l4t <= version]
    return found[-1] if found else None
