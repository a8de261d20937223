"""Published feature-interaction architectures, one file each.

Every architecture is an `nn.Module` that takes the benchmark's tokens (B, T, d), the same for
all, and returns a representation (B, output_dim); what the contract asks of it is written in
`baselines.layers.Backbone`. An architecture's projection to its own width is its own, and so is
that projection's cost. It knows nothing of features, tasks, losses or training.

Every file states the paper, what of it is here and what is not, the shapes, and the cost as a
formula that the tests compare with counted parameters and FLOPs.
"""
