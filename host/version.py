"""The project's version, also the tag of its images; pyproject.toml is the one place that says it."""

import tomllib

from host import ROOT

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
