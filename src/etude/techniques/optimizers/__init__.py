"""Techniques of the family *optimizers*."""
