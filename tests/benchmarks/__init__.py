"""Tests of what the benchmarks compute, apart from the times that they take."""
