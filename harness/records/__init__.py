"""What a run is and what it found. No torch."""
