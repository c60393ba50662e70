"""`python -m tools.energy`."""

from tools.energy import tool

tool.main()
