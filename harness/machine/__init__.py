"""The machine that runs took place on: its clock, its peak, its versions."""
