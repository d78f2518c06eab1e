"""How a model is run: forward passes over sequences with a KV cache, for decoding, labelling and features alike."""
