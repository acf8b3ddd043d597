"""Techniques of the family *efficient*."""
