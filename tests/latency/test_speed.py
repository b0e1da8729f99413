"""How long a prediction takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_candidate_that_is_exported_is_predicted_in_5_ms() -> None:
    command = (sys.executable, "-m", "tests.latency.speed")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for kind, (predicting, counting) in zip(("float", "int8"), json.loads(done.stdout), strict=True):
        assert predicting <= max(5.0, counting), f"{kind}: {predicting} ms, where the yardstick takes {counting} ms"
