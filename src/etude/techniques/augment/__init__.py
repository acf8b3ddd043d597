"""Techniques of the family *augment*."""
