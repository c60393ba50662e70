"""`python -m tools.ncs`."""

from tools.ncs import tool

tool.main()
