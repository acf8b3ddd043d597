"""Techniques of the family *sampling*."""
