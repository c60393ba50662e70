"""A phone over adb: found, looked at, given files, made to run programs by themselves, and left as it was.

    from tools.phone import choose

    phone = choose(serial)                       # "" for the only one
    pushed = phone.push({"model.tflite": tflite}, "tflite")
    with phone.awake(timeout_s=120):
        done = phone.run_detached(f"{phone.pinned(phone.state().big)}{pushed.paths['model.tflite']}", 60)

It is no tool: a tool that measures on a phone takes a parameter `phone`, which the user's --phone sets. See
docs/phone.md.
"""

from tools.phone.adb import HINT, Completed, ConnectionLost, Server
from tools.phone.device import Phone
from tools.phone.discovery import Found, choose, phones
from tools.phone.files import Pushed, check_program, program_abi
from tools.phone.jobs import Finished
from tools.phone.state import Cluster, State

__all__ = [
    "HINT",
    "Cluster",
    "Completed",
    "ConnectionLost",
    "Finished",
    "Found",
    "Phone",
    "Pushed",
    "Server",
    "State",
    "check_program",
    "choose",
    "phones",
    "program_abi",
]
