"""Sends requests at Poisson arrival times. Runs as a process of its own, and needs Python alone.

    python -I -S harness/serving/load.py RATE COUNT KINDS SEED > messages

A message is three numbers: which of KINDS requests, when it was to be sent, and when it was, in seconds of
the system's monotonic clock, which all processes share. A slow server does not slow the arrivals: their times
do not depend on it.
"""

import random
import struct
import sys
import time

MESSAGE = struct.Struct("=qdd")
HEAD_START = 0.02  # seconds before the first gap


def arrivals(rate, count, kinds, seed):
    """(kind, seconds since the start) of each request: gaps are exponential with mean 1 / ``rate``."""
    generator = random.Random(seed)
    at = 0.0
    for _ in range(count):
        at += generator.expovariate(rate)
        yield generator.randrange(kinds), at


def main():
    rate, count, kinds, seed = float(sys.argv[1]), *map(int, sys.argv[2:5])
    start = time.monotonic() + HEAD_START
    for kind, at in arrivals(rate, count, kinds, seed):
        while (left := start + at - time.monotonic()) > 0:
            time.sleep(left)
        sys.stdout.buffer.write(MESSAGE.pack(kind, start + at, time.monotonic()))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
