"""Techniques of the family *averaging*."""
