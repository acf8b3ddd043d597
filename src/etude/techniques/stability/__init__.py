"""Techniques of the family *stability*."""
