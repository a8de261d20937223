"""From features to logits: embeddings, tokens, an architecture, heads; and what that costs."""
