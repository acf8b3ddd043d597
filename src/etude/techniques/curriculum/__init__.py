"""Techniques of the family *curriculum*."""
