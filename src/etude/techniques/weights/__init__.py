"""Techniques of the family *weights*."""
