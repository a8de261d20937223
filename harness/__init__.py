"""The one hall where data and models meet.

The way of a batch: ``datasets`` reader -> embedding tables (TorchRec, optimizer fused into the
backward pass) -> semantic groups cut into tokens (B, T, d) -> architecture -> one tower a task ->
logits (B, G) -> loss, metrics -> run record on disk.

The contract of a run: it is a pure function of its spec; the spec's hash names its folder; a record
is written whole or not at all; a finished run is never repeated.
"""
