"""Runs the tool: `python -m tools.image`."""

from tools.image import tool

tool.main()
