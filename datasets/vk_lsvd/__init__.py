"""VK-LSVD: exposures of short videos, in the order of their rows."""
