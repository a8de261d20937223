"""Tables of questions that a suite asks beside its differences to the base: one analysis a file."""
