"""The core: what every run needs and no technique's name.

Shape letters used throughout: B examples, C classes, L tokens, D width, k extra terms.
"""
