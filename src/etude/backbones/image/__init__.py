"""Image backbones: small networks of our own, EfficientNet-lite0, and vision models of Hugging Face."""
