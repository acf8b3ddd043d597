"""Techniques of the family *perturb*."""
