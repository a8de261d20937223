"""RankMixer, the architecture this benchmark is named after, its variants and its descendants.

`rankmixer.model` holds Zhu et al. 2025 (https://arxiv.org/abs/2507.15551), every variant a switch of
one configuration: the mixings of `rankmixer.mixing`, the networks of `rankmixer.feed_forward`, the
experts of `rankmixer.sparse_moe` with their routers, their controller and their sparse evaluation.
`rankmixer.tokenmixer_large` holds its descendant. Both meet the contract of `baselines.layers.Backbone`
and share that file's layers, and no other of `baselines`.
"""
