"""The RankMixer paper's published numbers, and ours beside them."""
