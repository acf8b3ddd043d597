"""Scores: metrics in bounded memory."""
