"""Techniques of the family *filtering*."""
