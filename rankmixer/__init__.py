"""RankMixer, the architecture this benchmark is named after.

`rankmixer.model` holds the dense model of Zhu et al. 2025 (https://arxiv.org/abs/2507.15551):
`mix_tokens` is equations 3 to 5, `PerTokenFFN` equations 6 to 9, `Block` equation 1, `RankMixer`
the projection of equation 2, the blocks and the mean over tokens. It meets the contract of
`baselines.layers.Backbone` and shares that file's layers, and no other.
"""
