"""The file that a Myriad chip executes, read without its toolchain: what it is for, and whether it is whole.

Source of the format: OpenVINO 2021.4, inference-engine/src/vpu/graph_transformer: backend/blob_format.hpp
(the header, a stage's header, the word that ends a stage), src/blob_reader.cpp (inputs and outputs),
model/data_desc.hpp (data types). Numbers are unsigned, of 4 bytes, little-endian. There is no checksum.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Optional

from tools.stage import InvalidRequest

HEADER_OFFSET = 52  # an ELF header, of which nothing but its size matters
MAGIC = 9709
VERSION = (6, 0)  # of OpenVINO 2020.2 to 2022.3
STAGE_END = 0x7F83FF19
DATA_TYPES = ("FP16", "U8", "I32", "FP32", "I8")
IN_BLOB = 3  # where the shape of an input or output lies: the only place that the plug-in knows

# of the Neural Compute Stick 2 and of the first one
CHIPS = {"2480": "Myriad X (2480)", "2450": "Myriad 2 (2450)"}
UNITS = {"2480": (16, 19), "2450": (12, 12)}  # SHAVE processors and CMX slices that a network can have


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output: its name, its axes outermost first, and its type as OpenVINO writes it."""

    name: str
    shape: tuple[int, ...]
    precision: str


@dataclasses.dataclass(frozen=True)
class Blob:
    """What a blob says of itself.

    Attributes:
        stages: the steps that the chip executes; `shave_stages` of them run on SHAVE processors.
        shaves, cmx_slices: what one inference occupies of the chip: processors, and slices of 128 KiB of its
            fast memory.
        has_hw: whether it uses the convolution engines, which only a Myriad X has.
        bss_bytes: working memory in the stick's DRAM.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    stages: int
    shave_stages: int
    shaves: int
    cmx_slices: int
    has_hw: bool
    bss_bytes: int
    input_bytes: int
    output_bytes: int
    size_bytes: int

    @property
    def chip(self) -> Optional[str]:
        """The only chip that can execute it, as far as that can be told; None if either might.

        Only the engines and the units tell. What occupies a whole Myriad 2, and no more, is taken for one
        of those: nothing occupies just that of a Myriad X unless somebody asked for it.
        """
        shaves, slices = UNITS["2450"]
        if self.has_hw or self.shaves > shaves or self.cmx_slices > slices:
            return "2480"
        return "2450" if (self.shaves, self.cmx_slices) == (shaves, slices) else None


def read(path: Path) -> Blob:
    """Return what the blob says, after walking through all of its tables.

    Raises:
        InvalidRequest: it is no blob, of another version, cut off, or its tables contradict each other.
    """
    try:
        return _read(path.read_bytes())
    except (_CorruptError, struct.error, IndexError, UnicodeDecodeError) as error:
        message = f"corrupt blob: {path.name}: {error}"
        raise InvalidRequest(message, hint="Convert the network again, with ncs.convert.") from error


def require_chip(path: Path, blob: Blob, chip: str) -> None:
    """Raise InvalidRequest if the blob is certainly for another chip than `chip`, a key of CHIPS."""
    if blob.chip not in (None, chip):
        command = {"2480": "convert", "2450": "convert-2450"}[chip]
        is_for = CHIPS[str(blob.chip)]
        message = f"blob for the other chip: {path.name} is for {is_for}, this is {CHIPS[chip]}"
        raise InvalidRequest(message, hint=f"Convert the network for this one, with ncs.{command}.")


class _CorruptError(ValueError):
    pass


def _read(data: bytes) -> Blob:
    if len(data) < HEADER_OFFSET + 20 * 4:
        message = f"{len(data)} bytes are too few for a header"
        raise _CorruptError(message)
    header = struct.unpack_from("<20I", data, HEADER_OFFSET)
    magic, size, major, minor, inputs, outputs, stages, input_bytes, output_bytes = header[:9]
    _batch, bss_bytes, cmx_slices, shaves, has_hw = header[9:14]
    inputs_at, outputs_at, stages_at, constants_at = header[16:20]
    for wrong, message in (
        (magic != MAGIC, f"its magic number is {magic}, not {MAGIC}"),
        ((major, minor) != VERSION, f"it is of version {major}.{minor}, not {VERSION[0]}.{VERSION[1]}"),
        (not (shaves and cmx_slices), f"it takes {shaves} SHAVE processors and {cmx_slices} CMX slices"),
        (size != len(data), f"it has {len(data)} bytes and should have {size}"),
        (not inputs_at <= outputs_at <= stages_at <= constants_at <= size, "its sections are out of order"),
    ):
        if wrong:
            raise _CorruptError(message)
    on_shaves = _walk_stages(data[stages_at:constants_at], stages)
    return Blob(
        inputs=_tensors(data, inputs_at, inputs, constants_at),
        outputs=_tensors(data, outputs_at, outputs, constants_at),
        stages=stages,
        shave_stages=on_shaves,
        shaves=shaves,
        cmx_slices=cmx_slices,
        has_hw=bool(has_hw),
        bss_bytes=bss_bytes,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        size_bytes=size,
    )


def _walk_stages(section: bytes, count: int) -> int:
    """Return how many of the stages take SHAVE processors; check that each ends as a stage does."""
    offset = on_shaves = 0
    for index in range(count):
        length, _type, shaves = struct.unpack_from("<3I", section, offset)
        offset += length
        if length < 16 or struct.unpack_from("<I", section, offset - 4)[0] != STAGE_END:
            message = f"stage {index} of {count} does not end where it should"
            raise _CorruptError(message)
        on_shaves += shaves > 0
    return on_shaves


def _tensors(data: bytes, offset: int, count: int, constants_at: int) -> tuple[Tensor, ...]:
    found = []
    for index in range(count):
        number, _place, length = struct.unpack_from("<3I", data, offset)
        name = data[offset + 12 : offset + 12 + length].partition(b"\0")[0].decode()
        offset += 12 + length
        kind, _order, rank, location, shape_at = struct.unpack_from("<5I", data, offset)
        offset += 28  # with the place of the strides
        if number != index or location != IN_BLOB:
            message = f"its table of inputs and outputs is damaged at {name!r}"
            raise _CorruptError(message)
        innermost_first = struct.unpack_from(f"<{rank}I", data, constants_at + shape_at)
        found.append(Tensor(name, innermost_first[::-1], DATA_TYPES[kind]))
    return tuple(found)
