"""The command line of a tool: one Typer command per `Tool` command, made from its signature."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import typing
from pathlib import Path
from typing import Any, Callable, List, Optional

import typer

from tools.stage import Command, Result, StageError, Tool


def main(tool: Tool) -> None:
    """Run the command line; a StageError becomes one line on stderr and its exit code."""
    try:
        build(tool)()
    except StageError as error:
        print(error.one_line(), file=sys.stderr)
        sys.exit(error.exit_code)


def build(tool: Tool) -> typer.Typer:
    """Return the Typer application: the tool's commands, then `batch` and `serve` for many stages at once."""
    app = typer.Typer(
        help=f"{tool.name}: file in, file out; see `COMMAND --help`.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # a plain traceback in container logs
    )
    for command in tool.commands.values():
        app.command(command.name, no_args_is_help=bool(command.inputs))(_as_typer(command, tool))

    @app.command()
    def batch(folders: List[Path]) -> None:
        """Run stage folders (each with a request.json), all in this process."""
        raise typer.Exit(tool.batch(str(folder) for folder in folders))

    @app.command()
    def serve() -> None:
        """Run the stage folders that the runner names on standard input."""
        raise typer.Exit(tool.serve())

    @app.command(hidden=True)
    def measure(folder: Path) -> None:
        """Run one stage folder that measures; `batch` and `serve` start this."""
        tool.measure(folder)

    return app


def _as_typer(command: Command, tool: Tool) -> Callable[..., None]:
    """Wrap a command so that Typer sees options only, and the person sees the result as JSON."""

    @functools.wraps(command.function)
    def run(**options: Any) -> None:
        result: Result = command.function(**options)
        shown = {"metrics": result.metrics, "metadata": result.metadata, "versions": tool.versions()}
        print(json.dumps(shown, indent=2))

    fields = inspect.signature(command.function).parameters.values()
    hints = typing.get_type_hints(command.function)
    parameters = [_option(field, hints[field.name], command) for field in fields]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _option(field: inspect.Parameter, kind: Any, command: Command) -> inspect.Parameter:
    default = ... if field.default is field.empty else field.default
    if field.name in command.inputs:
        kind = Optional[Path] if field.name in command.optional else Path
        option = typer.Option(default, help=f"The file `{field.name}`, read.", exists=True, dir_okay=False)
    elif field.name in command.outputs:
        kind = Path
        made = Path(str(default).replace("{model}", "model"))
        option = typer.Option(made, help=f"The file `{field.name}`, written.")
    else:
        option = typer.Option(default)
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)
