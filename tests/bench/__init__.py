"""Benchmarks of this project itself: they print numbers and fail nothing, so they are no tests."""
