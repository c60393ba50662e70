"""`python -m tools.meters`."""

from tools.meters import tool

tool.main()
