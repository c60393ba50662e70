"""`python -m tools.oak`."""

from tools.oak import tool

tool.main()
