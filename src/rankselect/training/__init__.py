"""Training an adapter: the trainer, handling of faults, generated answers, and the losses of reference answers."""
