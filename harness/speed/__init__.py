"""How fast models are: one at a time and in turns. `profiles` has what is timed beside them."""
