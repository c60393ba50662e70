"""SIMULATED: stands for mvNCCompile.py and mvNCProfile.py of NCSDK, by the name that it is called by.

The options are those of docs/tools of movidius/ncsdk, and so is what is printed. As the toolkit, it ends with
0 after an error.
"""

import argparse
import sys
from pathlib import Path

import stick

PROFILE = """\x1b[1mmvNCProfile v02.00, Copyright @ Movidius Ltd 2016\x1b[0m

USB: Transferring Data...
\x1b[94mTime to Execute :  34.0  ms\x1b[39m
USB: Myriad Execution Finished
\x1b[94mTime to Execute :  30.5  ms\x1b[39m
USB: Myriad Execution Finished
Network Summary

Detailed Per Layer Profile
Layer      Name                                 MFLOPs    Bandwidth MB/s        time(ms)
========================================================================================
0          simulated                            94.090           1381.51           17.32
----------------------------------------------------------------------------------------
           Total inference time                                                    17.32
----------------------------------------------------------------------------------------
"""


def main():
    """Do what the program of this name does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("-s", type=int, choices=range(1, 13), required=True)
    parser.add_argument("-in", dest="input", required=True)
    parser.add_argument("-on", dest="output", required=True)
    parser.add_argument("-is", dest="size", type=int, nargs=2, required=True)
    compiles = Path(sys.argv[0]).name == "mvNCCompile.py"
    if compiles:
        parser.add_argument("-o", dest="made", required=True)
    options = parser.parse_args()
    assert Path(options.network).is_file()
    assert options.network.endswith(".pb")
    if stick.fault() == "unsupported":
        print("\x1b[91m[Error 5] Toolkit Error: Stage Details Not Supported: Sin\x1b[0m", file=sys.stderr)
    elif compiles:
        stick.write(options.made, options.network, options.input, options.output)
    elif stick.fault() == "no profile":
        print(PROFILE[: PROFILE.index("\x1b[94m")])
    else:
        print(PROFILE)


main()
