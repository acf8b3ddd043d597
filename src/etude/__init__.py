"""Étude trains classifiers: every technique a tested, composable part of one TOML file."""
