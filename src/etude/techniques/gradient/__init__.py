"""Techniques of the family *gradient*."""
