"""The demo SAE: its training text, the activations it reads, its training, evaluation and feature labels."""
