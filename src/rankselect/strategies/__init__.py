"""Ways to turn evidence into ranks."""
