"""What a DLC (Deep Learning Container, Qualcomm's file of a network) holds, read without the SDK.

It is a zip. `dlc.metadata<version>` says the version and which converter made it, `model` has operations and
tensors in a FlatBuffer, `model.params*` the weights. Qualcomm publishes no schema; that of `model` is the
one of Netron (source/dlc-schema.js in github.com/lutzroeder/netron, its version 4), by which slots and
numbers below are named. Read are names, types and shapes; not read are attributes (strides, axes), scales and
weights. QNN writes no checksums, so a changed byte goes unseen where the format still holds.

Nothing is extracted: of the zip only `model` and the metadata are read, up to a limit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.stage import InvalidRequest, Unsupported

LARGEST = 64 << 20  # bytes of a part that is read; nasnet_large's `model` has 1.6 MB
MAGIC = b"\xd5\x0a"  # then the format's number, uint16, and four bytes more; then the FlatBuffer
FORMAT = 4  # of SNPE 2 and QAIRT; 3 was that of SNPE 1
HEADER = 8
IDENTIFIER = b"NETD"
METADATA = re.compile(r"dlc\.metadata(?P<version>[\d.]*)")
NEWEST = 2  # major version of the metadata
HINT = "Convert it again with snpe.convert."

# Types of tensors (Qnn_DataType_t in QnnTypes.h).
TYPES = {
    0x0008: "int8",
    0x0016: "int16",
    0x0032: "int32",
    0x0064: "int64",
    0x0108: "uint8",
    0x0116: "uint16",
    0x0132: "uint32",
    0x0216: "float16",
    0x0232: "float32",
    0x0308: "fixed int8",
    0x0316: "fixed int16",
    0x0332: "fixed int32",
    0x0408: "fixed uint8",
    0x0416: "fixed uint16",
    0x0508: "bool",
}
ROLES = {0: "input", 1: "output", 3: "inner", 4: "constant"}  # Qnn_TensorType_t


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor: its role is one of `ROLES`, its type one of `TYPES`; of others the number."""

    name: str
    role: str
    type: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Node:
    """An operation, and the names of the tensors that it reads and makes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dlc:
    """A DLC's contents: sizes of its parts in bytes, and its graph."""

    version: str
    converter: str
    parts: dict[str, int]
    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors if tensor.role == "constant")


def read(path: Path) -> Dlc:
    """Read a DLC.

    Raises:
        InvalidRequest: it is none, or cut off, or damaged.
        Unsupported: its format is another than the one that is known.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            versions = sorted(match["version"] for match in map(METADATA.fullmatch, infos) if match)
            if not versions or "model" not in infos:
                raise _none(path, f"it holds {', '.join(list(infos)[:5]) or 'nothing'}")
            version = versions[-1]
            if version and int(version.split(".")[0]) > NEWEST:
                raise _of_another_format(path, f"version {version}", f"version {NEWEST}")
            history = f"dlc.metadata.history.{version}"  # in newer ones it has what the other had before
            made_by = infos.get(history, infos[f"dlc.metadata{version}"])
            nodes, tensors = _graph(path, _part(file, archive, infos["model"]))
            return Dlc(
                version=version or "1",
                converter=_converter(_part(file, archive, made_by)),
                parts={name: info.file_size for name, info in infos.items()},
                nodes=tuple(nodes),
                tensors=tuple(tensors),
            )
    except (
        *(OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error),
        *(ValueError, LookupError, TypeError, NotImplementedError, RuntimeError),  # of zip and FlatBuffers
    ) as error:
        raise _none(path, str(error) or type(error).__name__) from error


def _part(file: Any, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a part's bytes. One that is not compressed is read past the checksum, which QNN leaves at 0."""
    if info.file_size > LARGEST:
        message = f"its part {info.filename} has {info.file_size} bytes, at most {LARGEST} are read"
        raise ValueError(message)
    if info.compress_type != zipfile.ZIP_STORED:
        with archive.open(info) as part:
            return part.read(LARGEST)
    file.seek(info.header_offset + 26)  # lengths of name and extra field, by APPNOTE.TXT 4.3.7
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    file.seek(name_length + extra_length, 1)
    data: bytes = file.read(info.file_size)
    if len(data) < info.file_size:
        message = f"its part {info.filename} is cut off"
        raise ValueError(message)
    return data


def _converter(metadata: bytes) -> str:
    """Return what made it: JSON in newer ones, lines of `key=value` in older ones."""
    text = metadata.decode()
    if not text.lstrip().startswith("{"):
        lines = dict(line.partition("=")[::2] for line in text.splitlines())
        command, version = (lines.get(f"converter-{key}", "") for key in ("command", "version"))
        return f"{command.partition(' ')[0]} {version}".strip()
    steps = json.loads(text).get("dlcGenerationInfo", [])
    commands = [step["converterCommand"] for step in steps if "converterCommand" in step]
    return ", ".join(f"{command.get('tool')} {command.get('converterVersion')}" for command in commands)


def _graph(path: Path, data: bytes) -> tuple[list[Node], list[Tensor]]:
    """Return the operations and tensors of `model`, of all of its graphs."""
    from flatbuffers import encode
    from flatbuffers.number_types import UOffsetTFlags
    from flatbuffers.table import Table

    if data[:2] != MAGIC or data[HEADER + 4 : HEADER + 8] != IDENTIFIER:
        message = "its part model does not start as one"
        raise ValueError(message)
    (number,) = struct.unpack_from("<H", data, 2)
    if number != FORMAT:
        raise _of_another_format(path, f"format {number}", f"format {FORMAT}")
    buffer = bytearray(data[HEADER:])
    root = Table(buffer, encode.Get(UOffsetTFlags.packer_type, buffer, 0))
    nodes, tensors = [], []
    for graph in _tables(root, 4):
        nodes += [
            Node(_text(node, 4), _text(node, 6), tuple(_texts(node, 8)), tuple(_texts(node, 10)))
            for node in _tables(graph, 6)
        ]
        tensors += [
            Tensor(
                name=_text(tensor, 6),
                role=ROLES.get(_number(tensor, 8), str(_number(tensor, 8))),
                type=TYPES.get(_number(tensor, 16), hex(_number(tensor, 16))),
                shape=tuple(struct.unpack_from("<i", buffer, place)[0] for place in _places(tensor, 10)),
            )
            for tensor in _tables(graph, 8)
        ]
    return nodes, tensors


def _places(table: Any, slot: int) -> Iterator[int]:
    """Yield where the elements of a vector of 4 bytes each are."""
    offset = table.Offset(slot)
    if not offset:
        return
    start, length = table.Vector(offset), table.VectorLen(offset)
    if start + 4 * length > len(table.Bytes):
        message = "its part model has a list that is longer than the part"
        raise ValueError(message)
    yield from range(start, start + 4 * length, 4)


def _tables(table: Any, slot: int) -> list[Any]:
    return [type(table)(table.Bytes, table.Indirect(place)) for place in _places(table, slot)]


def _texts(table: Any, slot: int) -> list[str]:
    return [table.String(place).decode() for place in _places(table, slot)]


def _text(table: Any, slot: int) -> str:
    offset = table.Offset(slot)
    return table.String(table.Pos + offset).decode() if offset else ""


def _number(table: Any, slot: int) -> int:
    offset = table.Offset(slot)
    return int(struct.unpack_from("<i", table.Bytes, table.Pos + offset)[0]) if offset else 0


def _none(path: Path, why: str) -> InvalidRequest:
    message = f"{path.name} is not a DLC, or it is cut off or damaged: {why[:200]}"
    return InvalidRequest(message, hint=HINT)


def _of_another_format(path: Path, found: str, known: str) -> Unsupported:
    message = f"{path.name} is a DLC of {found}; {known} is what is read here"
    return Unsupported(message, hint=f"snpe-dlc-info of its own SDK reads it. {HINT}")
