"""The RankMixer paper's published numbers, and their comparison with ours."""
