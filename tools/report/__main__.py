"""Runs the tool: `python -m tools.report`."""

from tools.report import tool

tool.main()
