"""One measured figure, as ``profile`` prints it and ``--json`` writes it."""

from __future__ import annotations

import statistics


def figure(name: str, values: list[float], unit: str, command: str) -> dict:
    """The median of repeated measurements; ``spread`` is the largest less the smallest, in ``unit``."""
    return {
        "name": name,
        "value": float(statistics.median(values)),
        "unit": unit,
        "median_of": len(values),
        "spread": float(max(values) - min(values)),
        "command": command,
    }
