"""Techniques of the family *regularisation*."""
