"""A folder with which a phone measures by itself, without a PC: made (`make`), and taken back (`take`).

`on_phone/` has what runs there: a shell script and two of awk. See docs/phone.md, "Without a PC".
"""

from pathlib import Path

ON_PHONE = Path(__file__).parent / "on_phone"
MANIFEST = "manifest.json"
RESULTS = "results"  # the folder in the bundle that the phone writes
FORMAT = 1  # of a bundle; 1: first version
ENGINE = "phone bundle"  # what a record says of who executed it
