"""The encoders: the two towers of lookalike-mini with their training, and the port to foreign checkpoints."""
