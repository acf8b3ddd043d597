"""The configuration: pydantic models of the TOML file, and nothing that imports torch."""
