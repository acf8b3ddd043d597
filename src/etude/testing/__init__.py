"""Tools for tests: tiny real models and the conformance suite that third-party techniques inherit."""
