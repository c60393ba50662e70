"""Makes a meter's windows and rests short in a tool that has this folder on its PYTHONPATH, for tests."""

from __future__ import annotations

from tests.lab.spinning import HURRIED
from tools import metered

vars(metered).update({**HURRIED, "LONGEST_WINDOW_S": 1.0})
