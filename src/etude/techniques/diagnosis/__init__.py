"""Techniques that look on and keep what explains a run: updates of each group, losses of each row."""
