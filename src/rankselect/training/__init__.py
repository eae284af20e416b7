"""From a plan to a trained adapter: loading, question-answer rows, the trainer, generation."""
