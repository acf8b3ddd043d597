"""Networks over the columns of a table, written to their papers."""
