"""A sandbox for programs written by models."""
