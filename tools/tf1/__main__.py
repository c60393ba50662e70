"""`python -m tools.tf1`."""

from tools.tf1 import tool

tool.main()
