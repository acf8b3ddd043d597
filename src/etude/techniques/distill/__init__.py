"""Techniques of the family *distill*."""
