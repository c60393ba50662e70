"""`python -m tools.ncs1`."""

from tools.ncs1 import tool

tool.main()
