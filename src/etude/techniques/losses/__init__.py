"""Techniques of the family *losses*."""
