"""A small, real, leaky program, and its clean twin."""
