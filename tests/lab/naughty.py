"""A tool that misbehaves in every way that a tool can; the tests put it into a copy of the project."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tools import stage
from tools.stage import Input, Output, Result, StageError, Tool, Unsupported

tool = Tool("naughty")
used: list[str] = []  # by commands of this process


@tool.command()
def good(made: Output = "{model}.txt", text: str = "well", seconds: float = 0.0) -> Result:
    """Do as told, after a while."""
    for tick in range(10):
        stage.progress(tick / 10, "working")
        time.sleep(seconds / 10)
    used.append("good")
    Path(made).write_text(text)
    return Result(metrics={"length": len(text)})


@tool.command(fresh=True)
def look(place: Output = "{model}.place.txt") -> Result:
    """Say where it is."""
    place.write_text(os.environ.get("NAUGHTY_PLACE", "nowhere"))
    return Result()


@tool.command()
def built(place: Input, building: Output = "{model}.building.txt") -> Result:
    """Make what is of one place only."""
    building.write_text(f"built {place.read_text()}")
    return Result()


@tool.command()
def killed() -> Result:
    """Be killed, as by the kernel when memory runs out."""
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return Result()


@tool.command()
def silent() -> Result:
    """End without a result."""
    os._exit(0)


@tool.command()
def forgetful(forgotten: Output = "{model}.forgotten") -> Result:
    """Say it is done without making the output."""
    return Result()


@tool.command()
def hanging() -> Result:
    """Never end."""
    while True:
        time.sleep(1)


@tool.command()
def foreign(name: str = "result.json") -> Result:
    """Write a result of another schema and say that it is done."""
    Path(name).write_text(json.dumps({"schema": 99, "outputs": {}}))
    stage.emit({"done": os.path.relpath(Path.cwd(), Path.cwd().parents[1])})
    time.sleep(60)
    return Result()


@tool.command()
def on_phone(said: Output = "{model}.said.txt", phone: str = "") -> Result:
    """Run something on a phone."""
    from tools.phone import choose

    found = choose(phone)
    path = found.push({"input": Path("request.json")}, "naughty").paths["input"]
    Path(said).write_text(found.run_detached(f"wc -c <{path}; getprop ro.soc.model", 20).stdout)
    return Result(metadata=found.state().identity)


@tool.command()
def raising(kind: str = "bug") -> Result:
    """Fail in one way or another."""
    if kind == "bug":
        raise ZeroDivisionError(kind)
    if kind == "unsupported":
        message = "operator Sin cannot be converted"
        raise Unsupported(message, hint="Use another network.")
    raise StageError(kind)


@tool.command()
def filling(filled: Output = "{model}.big", megabytes: int = 64) -> Result:
    """Write more than a small disk holds."""
    with Path(filled).open("wb") as file:
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return Result()


@tool.command(measures=True)
def fresh(made: Input) -> Result:
    """Measure, after a command of the same tool ran: nothing of it may be left in this process."""
    message = f"the process was used before: {used}" if used else "as new"
    raise (StageError if used else Unsupported)(message, hint="See the test.")


@tool.command(measures=True)
def benchmark(samples: Output = "{model}.i64") -> Result:
    """Crash in the runtime while measuring."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return Result()


if __name__ == "__main__":
    tool.main()
