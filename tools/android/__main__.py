"""`python -m tools.android`."""

from tools.android import tool

tool.main()
