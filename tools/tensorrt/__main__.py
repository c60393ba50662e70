"""`python -m tools.tensorrt`: the tool's command line."""

from tools.tensorrt import tool

tool.main()
