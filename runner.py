"""Does this accelerator accelerate my neural network?

Prepares a network, converts it for every backend, checks that each conversion still computes the same
function, measures what is plugged in, and says plainly what was not measured and why.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from host import options
from host.options import (
    WORK,
    Boards,
    Json,
    Measuring,
    Metering,
    ModelFile,
    Networks,
    Recording,
    Running,
    Subject,
    Work,
    with_groups,
)
from host.version import VERSION
from tools import socs
from tools.stage import StageError

PLAIN: Any = {"no_args_is_help": True, "rich_markup_mode": None}  # with rich, `--help` takes twice as long
app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False, **PLAIN)
images_app = typer.Typer(help="The tools' Docker images.", **PLAIN)
phone_app = typer.Typer(help="A phone over adb.", **PLAIN)
power_app = typer.Typer(help="A power meter, and traces of power.", **PLAIN)
models_app = typer.Typer(help="The model zoo.", **PLAIN)
app.add_typer(images_app, name="images")
app.add_typer(models_app, name="models")
app.add_typer(phone_app, name="phone")
app.add_typer(power_app, name="power")

Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="FOLDER|FILE", help="Your pictures, checked besides the seeded inputs."),
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", metavar="NAME=PATH", help="Your file for an artifact.")
]
Registry = Annotated[
    str, typer.Option(envvar="MOBILE_ACCELERATOR_REGISTRY", help="Where images are, e.g. localhost:5000.")
]
Trace = typer.Option("-o", "--output", metavar="FILE.parquet|.csv", help="Where the trace goes.")
Tools = Annotated[list[str] | None, typer.Argument(help="Tools; all if none is named.")]


def main() -> None:
    """Run the command line; an error is one line on stderr and the exit code of its class."""
    try:
        app()
    except StageError as error:
        fail(error)
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, the next run goes on from there", file=sys.stderr)
        sys.exit(130)


def fail(error: StageError) -> NoReturn:
    """Print an error's one line and end with its exit code."""
    print(f"error: {error.one_line()}", file=sys.stderr)
    sys.exit(error.exit_code)


def print_version(wanted: bool) -> None:
    """Print the version and end, if it is wanted."""
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True)] = False,
) -> None:
    """Say what the program is."""


about.__doc__ = __doc__


@app.command("all")
@with_groups
def all_(
    networks: Networks,
    measuring: Measuring,
    metering: Metering,
    running: Running,
    boards: Boards,
    images: Images = None,
) -> None:
    """Do the main job: prepare, convert, check and measure on every backend, then report."""
    from host import jobs

    plan = jobs.plan_all(networks, measuring, running, images, boards.devices)
    raise typer.Exit(jobs.carry_out(plan, running, metering, boards, report=True))


@app.command()
@with_groups
def prepare(networks: Networks, running: Running, images: Images = None) -> None:
    """Make weights, inference graph, frozen graph and reference outputs, and stop there."""
    from host import jobs

    raise typer.Exit(jobs.carry_out(jobs.plan_prepare(networks, images), running))


@app.command()
@with_groups
def run(
    stage: Annotated[str, typer.Argument(metavar="TOOL.COMMAND", help="e.g. tflite.benchmark")],
    networks: Networks,
    metering: Metering,
    running: Running,
    boards: Boards,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the stage.")
    ] = None,
    inputs: Inputs = None,
    images: Images = None,
    soc: options.Soc = socs.DEFAULT,
    benchmark_model: options.BenchmarkModel = None,
) -> None:
    """Run one stage; what it needs is made first or taken from the store."""
    from host import jobs, programs

    all_settings = {**running.settings, "soc": soc}
    files = [*(inputs or []), *programs.given(benchmark_model)]
    plan = jobs.plan_one(networks, stage, files, settings or [], images, all_settings, boards.devices)
    raise typer.Exit(jobs.carry_out(plan, running, metering, boards))


@app.command()
@with_groups
def plan(
    networks: Networks,
    measuring: Measuring,
    metering: Metering,
    running: Running,
    boards: Boards,
    images: Images = None,
) -> None:
    """Show what `all` would run and why, running nothing."""
    from host import jobs

    planned = jobs.plan_all(networks, measuring, running, images, boards.devices)
    jobs.preview(planned, running, metering, boards)


@app.command()
def fetch(
    model: Annotated[list[str] | None, typer.Argument(help="Networks of the zoo.")] = None,
    all_models: Annotated[bool, typer.Option("--all", help="All that are published.")] = False,
    trust: Annotated[
        bool,
        typer.Option("--trust-on-first-use", help="Take a file of no known checksum, and record its own."),
    ] = False,
    work: Work = WORK,
) -> None:
    """Fetch published checkpoints: verified, resumed where a try broke off, ready for --weights."""
    from host import catalog

    raise typer.Exit(catalog.fetch_models(model or [], work, all_models=all_models, trust=trust))


@app.command()
@with_groups
def label(
    networks: Networks,
    running: Running,
    boards: Boards,
    image: Annotated[
        Path | None, typer.Argument(help="A picture, or a folder of them; a generated one if left out.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The classes' names, one a line; ImageNet's are known.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    backend: options.Backends = None,
    precision: options.Precisions = None,
    inputs: Inputs = None,
    threads: options.Threads = 0,
    benchmark_model: options.BenchmarkModel = None,
) -> None:
    """Say what a picture shows, on every backend, beside what the reference graph says."""
    from host import label as labelling
    from host import programs

    plan = labelling.plan(
        networks,
        image,
        backend,
        [*(inputs or []), *programs.given(benchmark_model)],
        precisions=precision or (),
        labels=labels,
        top=top,
        settings={**running.settings, "threads": threads},
        devices=boards.devices,
    )
    raise typer.Exit(labelling.carry_out(plan, running, boards))


@app.command()
@with_groups
def flops(subject: Subject, running: Running) -> None:
    """Count parameters and operations, layer by layer, of a model or of any frozen graph or ONNX file."""
    from host import graphs

    raise typer.Exit(graphs.flops(subject, running))


@app.command()
@with_groups
def visualize(
    subject: Subject,
    running: Running,
    netron: Annotated[bool, typer.Option("--netron", help="Show the file in Netron until Ctrl-C.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="As --netron, on this port, not any free one."),
    ] = None,
) -> None:
    """Draw the layers of a model, or of any frozen graph or ONNX file, as one HTML page; or start Netron."""
    from host import graphs

    if netron or port is not None:
        raise typer.Exit(graphs.serve(subject, running, port or 0))
    raise typer.Exit(graphs.visualize(subject, running))


@app.command()
@with_groups
def prune(
    networks: Networks,
    running: Running,
    ratio: Annotated[float | None, typer.Option(help="This share of the weights, the smallest.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Weights of a smaller magnitude.")] = None,
    layer: Annotated[str, typer.Option(metavar="REGEX", help="Only kernels with a name like that.")] = "",
    scope: Annotated[str, typer.Option(help="The ratio is of each `layer`, or `global`.")] = "layer",
) -> None:
    """Set the smallest weights of a checkpoint to zero and report the sparsity of each layer."""
    from host import pruning

    plan = pruning.plan(networks, ratio=ratio, threshold=threshold, layer=layer, scope=scope)
    raise typer.Exit(pruning.prune(plan, networks, running))


@app.command()
@with_groups
def report(
    running: Running, run: Annotated[str, typer.Argument(help="A run's name in work/runs.")] = "latest"
) -> None:
    """Make the HTML report of an earlier run anew."""
    from host import jobs

    print(jobs.report_again(run, running))


@app.command()
def devices(device: options.Devices = None, as_json: Json = False) -> None:
    """List the devices that are plugged in, and boards that are named, their states, and what to do."""
    from host import devices

    devices.show(device or [], as_json=as_json)


@app.command()
def doctor(
    work: Work = WORK,
    device: options.Devices = None,
    as_json: Json = False,
    install_udev: Annotated[
        bool, typer.Option("--install-udev", help="Let every user open sticks and cameras, after asking.")
    ] = False,
) -> None:
    """Say what is here, what is missing, and the command that mends it."""
    if install_udev:
        from host import udev

        print(udev.install(typer.confirm))
        return
    from host import doctor

    raise typer.Exit(doctor.report(work, device or [], as_json=as_json))


@app.command()
def clean(
    work: Work = WORK,
    key: Annotated[list[str] | None, typer.Option(help="This entry of the store; may be repeated.")] = None,
    store: Annotated[bool, typer.Option("--store", help="All of the store.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="All runs.")] = False,
    environments: Annotated[bool, typer.Option("--environments", help="The venv engine's cache.")] = False,
    downloads: Annotated[bool, typer.Option("--downloads", help="All fetched checkpoints.")] = False,
) -> None:
    """Remove what killed runs left, and what is named; without a name, show what takes how much room."""
    from host import clean

    clean.clean(work, keys=key or [], store=store, runs=runs, environments=environments, downloads=downloads)


@phone_app.command("state")
def phone_state(phone: options.Phone = "", as_json: Json = False) -> None:
    """Show what a phone is and how it is now: chip, cores, clocks, temperatures, battery."""
    from host import phones

    phones.show_state(phone, as_json=as_json)


@phone_app.command("clean")
def phone_clean(phone: options.Phone = "") -> None:
    """Remove from a phone what runs left there: the files that the next one need not send again."""
    from host import phones

    print(phones.clean(phone))


@phone_app.command("bundle")
@with_groups
def phone_bundle(
    networks: Networks,
    measuring: Measuring,
    running: Running,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER|.zip", help="Where to; it must not be there yet."),
    ],
    rest_s: Annotated[int, typer.Option(min=0, help="Pause before each timing, for the phone to cool.")] = 10,
) -> None:
    """Pack all that a phone needs to measure by itself, by adb shell or in Termux, with no PC attached."""
    from host.phone_bundle import make

    print(make.make(networks, measuring, running, output, rest_s))


@phone_app.command("import")
@with_groups
def phone_import(
    running: Running,
    bundle: Annotated[
        Path, typer.Argument(metavar="FOLDER|.zip|.tar", help="The bundle, as it was on the phone.")
    ],
) -> None:
    """Make a run of what a phone measured by itself: checked, compared with the reference, reported."""
    from host.phone_bundle import take

    raise typer.Exit(take.carry_out(bundle, running))


@power_app.command("list")
def power_list(as_json: Json = False) -> None:
    """List the meters that are known, and which of them are here."""
    from host import power

    power.list_meters(as_json=as_json)


@power_app.command("record")
@with_groups
def power_record(recording: Recording, output: Annotated[Path, Trace]) -> None:
    """Record a meter until Ctrl-C, or as long as told."""
    from host import power

    raise typer.Exit(power.record(recording, output))


@power_app.command("live")
@with_groups
def power_live(
    recording: Recording,
    output: Annotated[Path | None, Trace] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = 0,
) -> None:
    """Show a meter's trace in a browser of this machine while it is sampled, until Ctrl-C."""
    from host import power

    raise typer.Exit(power.live(recording, output, port))


@power_app.command("energy")
@with_groups
def power_energy(
    running: Running,
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace: Parquet, CSV, PT4 or PT5.")],
    inferences: Annotated[
        int, typer.Option(help="How many inferences ran; the load is found in the trace.")
    ] = 0,
    windows: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help='When: [{"start_s": 1, "end_s": 11, "inferences": 100}, ...]'),
    ] = None,
    channel: Annotated[str, typer.Option(help="Which channel; the whole device's if left out.")] = "",
) -> None:
    """Tell the energy of an inference, gross and net, with an interval; or why the trace cannot carry it."""
    from host import traces

    raise typer.Exit(traces.energy(trace, windows, inferences=inferences, channel=channel, running=running))


@power_app.command("convert")
@with_groups
def power_convert(
    running: Running,
    file: Annotated[Path, typer.Argument(help="PT4 or PT5 of PowerTool, a CSV, or a Parquet trace.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Ending in .parquet, .csv or .pt4.")
    ],
    channel: Annotated[str, typer.Option(help="Which channel goes into a CSV.")] = "main",
) -> None:
    """Convert a power trace from one format to another."""
    from host import traces

    raise typer.Exit(traces.convert(file, output, channel=channel, running=running))


@models_app.command("list")
def models_list(model_file: ModelFile = None, as_json: Json = False) -> None:
    """List the networks; a family takes any depth multiplier."""
    from host import catalog

    raise typer.Exit(catalog.list_models(model_file, as_json=as_json))


@models_app.command("show")
def models_show(name: str, model_file: ModelFile = None, work: Work = WORK, as_json: Json = False) -> None:
    """Show what is known of one network, and whether its published checkpoint is here."""
    from host import catalog

    catalog.show_model(name, model_file, work, as_json=as_json)


@images_app.command("build")
def images_build(
    tools: Tools = None,
    base: Annotated[str | None, typer.Option(help="Build on this image.")] = None,
    offline_base: Annotated[
        bool, typer.Option("--offline-base", help="Make the base from Debian's archive by mmdebstrap.")
    ] = False,
) -> None:
    """Build images; needs a package index, and a registry for the base unless --offline-base."""
    from host import catalog

    catalog.build_images(tools or [], base=base, offline_base=offline_base)


@images_app.command("pull")
def images_pull(tools: Tools = None, registry: Registry = "") -> None:
    """Take prebuilt images of this version from a registry."""
    from host import catalog

    catalog.pull_images(tools or [], registry=registry)


@images_app.command("push")
def images_push(tools: Tools = None, registry: Registry = "") -> None:
    """Put images of this version into a registry."""
    from host import catalog

    catalog.push_images(tools or [], registry=registry)


@images_app.command("list")
def images_list(as_json: Json = False) -> None:
    """List every tool's image, there or not."""
    from host import catalog

    catalog.list_images(as_json=as_json)


if __name__ == "__main__":
    main()
