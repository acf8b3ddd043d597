"""Techniques of the family *targets*."""
