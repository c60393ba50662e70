"""`python -m tools.monsoon`."""

from tools.monsoon import tool

tool.main()
