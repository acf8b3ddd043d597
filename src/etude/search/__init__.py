"""Searching: learning rates, batch sizes, epochs, settings; each search trains runs and compares them."""
