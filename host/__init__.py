"""What has to run on the host: plan, engines, store, devices, results."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
