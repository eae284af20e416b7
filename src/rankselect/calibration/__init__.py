"""What is measured of a model on its texts: hidden states, and the intrinsic-dimension profile."""
