"""Yambda: listens at a music service, in three sizes."""
