"""Techniques of the family *heads*."""
