"""Techniques of the family *initialisation*."""
