"""The embedded pair: a small target and a smaller draft that ship with the package, and their task."""
