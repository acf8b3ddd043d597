"""Techniques of the family *mixing*."""
