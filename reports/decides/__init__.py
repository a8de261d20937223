"""The page "What decides": does RankMixer win when there is more to learn, over rows, size and worlds."""
