"""Pages that explain a run: one HTML file each, complete in itself."""
