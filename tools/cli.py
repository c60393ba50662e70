"""The command line of a tool: one Typer command per `Tool` command, made from its signature."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, List, Optional

import typer

from tools.stage import Command, Parser, Result, StageError, Tool

FILE = typer.Argument(..., help="What the program printed.", exists=True, dir_okay=False)
JSON = typer.Option(False, "--json", help="Print JSON for a machine to read.")


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
    for name, parser in tool.parsers.items():
        app.command(name, help=parser.__doc__, no_args_is_help=True)(_shown(parser))

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


def _shown(parser: Parser) -> Callable[..., None]:
    """Wrap a parser so that the person sees what it found as a table, or with --json as JSON."""

    def run(file: Path = FILE, as_json: bool = JSON) -> None:
        found = parser(file)
        print(json.dumps(found, indent=2) if as_json else _table(found))
        if found["status"] != "ok":
            raise StageError(found["reason"], hint=found["hint"])

    return run


def _table(found: Mapping[str, Any], title: str = "") -> str:
    """Return plain values as `name value` lines, and lists of rows as columns under their name; no None.

    A dict of dicts is a list of rows with their keys first; a row that holds rows is a table of its own, with
    what it is called above it.
    """
    values = {key: value for key, value in found.items() if value is not None}
    rows_of = {key: _rows(value) for key, value in values.items() if isinstance(value, (list, dict))}
    plain = [[key, str(value)] for key, value in values.items() if key not in rows_of]
    blocks = [title, _columns(plain)] if title else [_columns(plain)]
    for key, rows in rows_of.items():
        if any(isinstance(value, (list, dict)) and value for row in rows for value in row.values()):
            blocks += [_table(row, f"-- {key}: {next(iter(row.values()))} --") for row in rows]
        elif rows:
            shown = [["" if row.get(name) is None else str(row[name]) for name in rows[0]] for row in rows]
            heads = [] if list(rows[0]) == [""] else [list(rows[0])]
            blocks.append(f"{key}:\n{_columns([*heads, *shown])}")
    return "\n\n".join(filter(None, blocks))


def _rows(value: Any) -> List[Mapping[str, Any]]:
    """Return a list or a dict as rows of one kind; in a row what is in a dict has both names."""
    if isinstance(value, dict):
        if value and all(isinstance(each, dict) for each in value.values()):
            return [{"name": key, **each} for key, each in value.items()]
        return [_flat(value)] if value else []
    return [each if isinstance(each, dict) else {"": each} for each in value]


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = {key: value if isinstance(value, dict) else {"": value} for key, value in row.items()}
    return {f"{key} {name}".strip(): value for key, each in inner.items() for name, value in each.items()}


def _columns(rows: List[List[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


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
