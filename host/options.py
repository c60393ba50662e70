"""Options that several of the runner's commands take, each declared once.

A command names a group as a parameter (`running: Running`) and so has its options; `with_groups` tells Typer.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tools import socs
from tools.stage import InvalidRequest

if typing.TYPE_CHECKING:  # the zoo is read by the commands that name a network
    from host.zoo import Model

WORK = Path("work")
TENSORFLOWS = {"2.15": "tf1", "1.15": "tf1-legacy"}  # version -> the service that runs the tool tf1 with it

Work = Annotated[Path, typer.Option(help="The shared folder: store, models, runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]
ModelFile = Annotated[
    Path | None, typer.Option("--model-file", help="Your own networks, in TOML; see docs/zoo.md.")
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads of each runtime; 0: all.")]
Phone = Annotated[
    str,
    typer.Option(
        "--phone",
        metavar="SERIAL|HOST:PORT",
        envvar="ANDROID_SERIAL",
        help="Which phone, where there is more than one.",
    ),
]
Backends = Annotated[list[str] | None, typer.Option("--backend", help="Only this; may be repeated.")]
Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        help="fp32, fp16, int8-dynamic, int8 or int16, for every backend; may be repeated. "
        "If left out: fp32 on the CPU, fp16 on OpenVINO's GPU and NPU, fp16 and int8 on a Snapdragon's HTP, "
        "all three with TensorRT.",
    ),
]


Engine = Annotated[str, typer.Option(help="auto, docker or venv.")]
Pull = Annotated[bool, typer.Option("--pull", help="Pull missing images instead of building them.")]

MeterSerial = Annotated[
    str, typer.Option(metavar="SERIAL", help="Which, where there is more than one of its kind.")
]
MeterSets = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A parameter of the meter, e.g. its output voltage."),
]

Soc = Annotated[
    str,
    typer.Option(
        callback=lambda name: socs.find(name).name,
        help="The Snapdragon to compile for and to emulate; docs/snapdragon.md lists them.",
    ),
]

BenchmarkModel = Annotated[
    Path | None,
    typer.Option(
        "--benchmark-model",
        metavar="PATH",
        help="Your TensorFlow Lite's benchmark_model for phones, instead of the fetched one.",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metering:
    """Which meter records what is measured."""

    meter: Annotated[
        str, typer.Option(metavar="NAME|auto", help="Energy too, by this meter; auto: the one that is here.")
    ] = ""
    meter_serial: MeterSerial = ""
    meter_set: MeterSets = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """How a meter is recorded by itself."""

    meter: Annotated[
        str, typer.Option(metavar="NAME|auto", help="Which meter; auto: the one that is here.")
    ] = "auto"
    meter_serial: MeterSerial = ""
    meter_set: MeterSets = None
    duration_s: Annotated[float, typer.Option(min=0.0, help="End after so many seconds; 0: at Ctrl-C.")] = 0.0
    samples: Annotated[
        int, typer.Option(min=0, help="End after so many samples, if the meter can; 0: no.")
    ] = 0
    start_ma: Annotated[
        float, typer.Option(help="Begin at the first sample of so many mA, if the meter can; 0: at once.")
    ] = 0.0
    stop_ma: Annotated[
        float, typer.Option(help="End when the current stays below, if the meter can; 0: no.")
    ] = 0.0
    input: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=PATH", help="A file that it reads: replay's `recorded`."),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False
    engine: Engine = "auto"
    pull: Pull = False
    work: Work = WORK
    phone: Phone = ""
    as_json: Json = False

    @property
    def sets(self) -> list[str]:
        """What was asked of the meter's own parameters, each `name=value`."""
        own = {"samples": self.samples, "start_ma": self.start_ma, "stop_ma": self.stop_ma}
        return [*(f"{name}={value}" for name, value in own.items() if value), *(self.meter_set or ())]

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that meters take by name."""
        return {"duration_s": self.duration_s, "phone": self.phone}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """How stages are run."""

    engine: Engine = "auto"
    work: Work = WORK
    tensorflow: Annotated[
        str, typer.Option(help="2.15, or 1.15 for what cannot read graphs of newer ones.")
    ] = "2.15"
    # the longest stage seen is the conversion of a large network, in minutes
    limit_s: Annotated[float, typer.Option(min=1.0, help="Time limit for one stage, in seconds.")] = 1800.0
    pull: Pull = False
    sdk: Annotated[
        list[str] | None,
        typer.Option("--sdk", metavar="TOOL=PATH", help="A vendor's SDK that you have: folder or archive."),
    ] = None
    snpe_sdk: Annotated[
        Path | None, typer.Option("--snpe-sdk", help="The same as --sdk snpe=PATH: SNPE or QAIRT.")
    ] = None
    phone: Phone = ""
    dla_core: Annotated[
        int, typer.Option(min=-1, help="TensorRT: a Jetson's deep learning accelerator; -1: its GPU.")
    ] = -1
    tensorrt_api: Annotated[
        str, typer.Option(help="TensorRT: auto, its Python module (python), or trtexec.")
    ] = "auto"
    keep_going: Annotated[bool, typer.Option(help="After a failure go on with what does not need it.")] = True
    as_json: Json = False

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that stages take by name."""
        return {"phone": self.phone, "dla_core": self.dla_core, "tensorrt_api": self.tensorrt_api}

    @property
    def sdks(self) -> list[str]:
        """The SDKs that were given, each `tool=path`."""
        return [*(self.sdk or ()), *([f"snpe={self.snpe_sdk}"] if self.snpe_sdk else ())]

    @property
    def builds(self) -> dict[str, str]:
        """Tool -> service, for tools that do not run in their usual one.

        Raises:
            InvalidRequest: there is no such generation of TensorFlow.
        """
        if self.tensorflow not in TENSORFLOWS:
            message = f"there is no TensorFlow {self.tensorflow!r} here"
            raise InvalidRequest(message, hint=f"Choose one of {', '.join(TENSORFLOWS)}")
        service = TENSORFLOWS[self.tensorflow]
        return {} if service == "tf1" else {"tf1": service}


Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="USER@HOST[:PORT]",
        help="A board, by SSH, e.g. jetson@192.168.55.1; may be repeated. See docs/jetson.md.",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boards:
    """Boards to run on what has to run where the accelerator is."""

    device: Devices = None
    power_mode: Annotated[
        int | None,
        typer.Option(min=0, help="Set the boards' nvpmodel mode for the run, and set it back afterwards."),
    ] = None

    @property
    def devices(self) -> list[str]:
        """Each board once.

        Raises:
            InvalidRequest: one is not a place where a board can be, or a mode is given and no board.
        """
        from host.board.ssh import Destination

        if self.power_mode is not None and not self.device:
            message = "--power-mode is for boards, and none is named"
            raise InvalidRequest(message, hint="Name one: --device USER@HOST")
        return list(dict.fromkeys(Destination.parse(text).text for text in self.device or ()))


NO_BOARDS = Boards()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks:
    """Which networks, with which weights."""

    model: Annotated[
        list[str] | None, typer.Option("--model", help="A network of the zoo; may be repeated.")
    ] = None
    all_models: Annotated[bool, typer.Option("--all-models", help="Every network of the zoo.")] = False
    model_file: ModelFile = None
    weights: Annotated[str, typer.Option(help="auto, published, generated, or a checkpoint of yours.")] = (
        "auto"
    )

    def named(self) -> bool:
        """Whether any is."""
        return bool(self.model) or self.all_models

    def found(self) -> list[Model]:
        """Return the networks.

        Raises:
            InvalidRequest: none are named, or one is unknown, or its description is wrong.
        """
        from host import zoo

        return zoo.choose(self.model or [], self.model_file, every=self.all_models)

    def one(self) -> Model:
        """Return the network, where there can be only one.

        Raises:
            InvalidRequest: it is not exactly one.
        """
        found = self.found()
        if len(found) > 1:
            message = f"this command takes one model, not {len(found)}"
            raise InvalidRequest(message, hint=f"e.g. --model {found[0].name}")
        return found[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject(Networks):
    """What to look at: an artifact of each of the networks, or else `file`."""

    file: Annotated[Path | None, typer.Argument(help="A .pb or .onnx file, instead of a model.")] = None
    artifact: Annotated[str, typer.Option(help="Which of the model's files.")] = "frozen"
    input_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]1,224,224,3", help="The shape of an input that has no fixed one."),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured of each network, and how long."""

    backend: Backends = None
    precision: Precisions = None
    budget_s: Annotated[float, typer.Option(min=0.0, help="Time for each measurement, in seconds.")] = 10.0
    threads: Threads = 0
    soc: Soc = socs.DEFAULT
    benchmark_model: BenchmarkModel = None

    @property
    def precisions(self) -> Sequence[str]:
        """Those that were asked for; none: each measurement's own."""
        return self.precision or ()

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that stages take by name."""
        return {"budget_s": self.budget_s, "threads": self.threads, "soc": self.soc}


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function for Typer, with a group's options in the place of each parameter that is one."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}

    @functools.wraps(function)
    def run(**given: Any) -> None:
        made = {
            name: group(**{field: given.pop(field) for field in _fields(group)})
            for name, group in groups.items()
        }
        function(**made, **given)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters += _fields(groups[parameter.name]).values()
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=kind, annotation=hints[parameter.name]))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@functools.cache
def _fields(group: Any) -> dict[str, inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return {
        field.name: inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    }
