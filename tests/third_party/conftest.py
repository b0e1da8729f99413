"""Puts the third-party plugins where pip would, for this process and those that it starts."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("nas_edge_ternary", "nas_edge_tiny", "broken")]
