"""Techniques of the family *schedules*."""
