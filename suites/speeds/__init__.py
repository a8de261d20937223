"""How fast a suite's rows are: timed, served, and matched to a latency."""
