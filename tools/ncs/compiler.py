"""Compile a network for a Myriad chip, with no stick: how OpenVINO's plug-in is brought to do it."""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tools.myriad_blob import CHIPS
from tools.ncs.inference_engine import PLUGIN, known_errors
from tools.stage import InvalidRequest, StageError

INPUT_TYPES = ("FP16", "U8", "FP32")
OUTPUT_TYPE = "FP16"  # what the chip computes in; another one would only make it convert before it sends
MOST_STREAMS = 3
# What each of 1, 2, 3 streams gets of a chip, (SHAVE processors, CMX slices), if OpenVINO 2021.4.2 is not
# asked for anything else; read off the headers of blobs.
UNITS = {"2480": ((16, 19), (7, 9), (4, 6)), "2450": ((12, 12), (6, 6), (4, 4))}
DEFAULT_STREAMS = {"2480": 2, "2450": 1}
COMPILED = "there is no available devices with platform"  # said when the blob is written, and would be sent


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compile for. A number that is 0 is the compiler's own choice.

    Attributes:
        chip: a key of `myriad_blob.CHIPS`.
        shaves, cmx_slices: what one inference may use of the chip.
        streams: inferences that share the chip, which divides it.
        input_type: what the host sends; U8 halves the transport and is converted on the chip.
        mean, scale: the chip computes (input - mean) / scale; "" or a number, mean also one for each channel.
    """

    chip: str
    shaves: int = 0
    cmx_slices: int = 0
    streams: int = 0
    input_type: str = "FP16"
    mean: str = ""
    scale: str = ""

    def check(self) -> None:
        """Raise InvalidRequest if a value makes no sense for any chip; the compiler knows the rest."""
        if min(self.shaves, self.cmx_slices, self.streams) < 0 or self.streams > MOST_STREAMS:
            message = f"shaves={self.shaves}, cmx_slices={self.cmx_slices}, streams={self.streams}"
            hint = f"Give numbers, streams up to {MOST_STREAMS}, or 0 for the compiler's own choice."
            raise InvalidRequest(message, hint=hint)
        if self.input_type not in INPUT_TYPES:
            message = f"input_type is {self.input_type!r}"
            raise InvalidRequest(message, hint=f"There are: {', '.join(INPUT_TYPES)}.")

    @property
    def units(self) -> tuple[int, int]:
        """SHAVE processors and CMX slices of one stream; the compiler takes either both or none."""
        shaves, slices = UNITS[self.chip][self.used_streams - 1]
        if self.shaves or self.cmx_slices:
            chosen = self.shaves or min(shaves, self.cmx_slices)
            return chosen, self.cmx_slices or max(slices, chosen)
        return shaves, slices

    @property
    def used_streams(self) -> int:
        """The number of streams, also where the compiler chooses it."""
        return self.streams or DEFAULT_STREAMS[self.chip]

    def config(self) -> dict[str, str]:
        """Return the plug-in's settings."""
        shaves, slices = self.units
        return {
            "MYRIAD_NUMBER_OF_SHAVES": str(shaves),
            "MYRIAD_NUMBER_OF_CMX_SLICES": str(slices),
            "MYRIAD_THROUGHPUT_STREAMS": str(self.used_streams),
        }


def prepare(network: Any, options: Options) -> None:
    """Set the types of inputs and outputs, and build mean and scale in. Tokens stay integers."""
    for described in network.input_info.values():
        if described.precision == "FP32":
            described.precision = options.input_type
    for described in network.outputs.values():
        described.precision = OUTPUT_TYPE
    if options.mean or options.scale:
        _build_in(network, options)


def _build_in(network: Any, options: Options) -> None:
    from openvino.inference_engine import MeanVariant

    shapes = [tuple(described.input_data.shape) for described in network.input_info.values()]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        message = f"mean and scale are for one input [1, C, H, W], and this network has {shapes}"
        raise InvalidRequest(message, hint="Leave them out, and give the network what it expects.")
    (described,) = network.input_info.values()
    channels = shapes[0][1]
    means = _numbers(options.mean or "0", (1, channels), "one mean, or one for each channel: 104,117,124")
    (scale,) = _numbers(options.scale or "1", (1,), "one scale; the chip has none for single channels")
    if not scale:
        message = f"scale is {options.scale!r}, and the input is divided by it"
        raise InvalidRequest(message, hint="Give a number that is not 0.")
    described.preprocess_info.init(channels)
    for channel in range(channels):
        described.preprocess_info[channel].mean_value = means[channel % len(means)]
        described.preprocess_info[channel].std_scale = 1 / scale  # which the plug-in multiplies by
    described.preprocess_info.mean_variant = MeanVariant.MEAN_VALUE


def _numbers(text: str, lengths: tuple[int, ...], wanted: str) -> list[float]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in lengths or not all(map(math.isfinite, values)):
        message = f"{text!r} is not a number, or not as many as there should be"
        raise InvalidRequest(message, hint=f"Give {wanted}.")
    return values


def compile_network(core: Any, network: Any, options: Options, blob: Path) -> str:
    """Compile a prepared network into `blob`; return the compiler's graph of it, for `stage_plan.parse`.

    OpenVINO's Python interface compiles and loads in one step. A core with a cache folder writes the
    compiled network there in between; that the loading fails then says nothing about the blob. With a
    timeout below 0 the plug-in gives up before it looks for a stick (MyriadExecutor::bootNextDevice). Else
    it would look for 5 s before it compiles, and would boot one that is there.

    Raises:
        Unsupported: the chip has no such layer.
        InvalidRequest: the chip has fewer units than were asked for.
    """
    what = f"cannot be compiled for {CHIPS[options.chip]}"
    with tempfile.TemporaryDirectory(dir=str(blob.parent)) as name:
        folder = Path(name).resolve()
        graph = folder / "graph.dot"
        core.set_config({"CACHE_DIR": str(folder)}, "")
        config = {
            **options.config(),
            "VPU_MYRIAD_PLATFORM": f"VPU_MYRIAD_{options.chip}",
            "MYRIAD_DEVICE_CONNECT_TIMEOUT": "-1",
            "MYRIAD_DUMP_INTERNAL_GRAPH_FILE_NAME": str(graph),
        }
        with known_errors(what):
            try:
                core.load_network(network, PLUGIN, config=config)
            except RuntimeError as error:
                if COMPILED not in str(error):
                    raise
        cached = list(folder.glob("*.blob"))
        if len(cached) != 1:
            message = f"{what}: OpenVINO left {len(cached)} blobs in its cache folder"
            raise StageError(message, hint="The log says more.")
        with cached[0].open("rb") as file, blob.open("wb") as made:
            file.readline()  # OpenVINO's own line of XML
            shutil.copyfileobj(file, made)
        return graph.read_text()
