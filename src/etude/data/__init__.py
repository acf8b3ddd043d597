"""Data: from a file's rows to prepared examples, with every row of every part checked."""
