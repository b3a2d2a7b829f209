"""Checkers by theme; ``registry`` has them all by name."""
