"""MovieLens: ratings of films, as two logs of one kind."""
