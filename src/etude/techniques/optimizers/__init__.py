"""Optimizers: from parameter groups to torch's optimizer."""
