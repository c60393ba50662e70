"""Runs the tool: `python -m tools.snpe`."""

from tools.snpe import tool

tool.main()
