"""Networks that turn the inputs of a batch into logits, one module for each kind of input."""
