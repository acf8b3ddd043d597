"""Techniques of the family *groups*."""
