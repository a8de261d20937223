"""What all figures share: panels, models and their looks, names at lines, the style, and the files."""
