"""Trained models as artefacts that run without this project, each checked against the run it comes from."""
