"""Tests of the backends, each on a graph of a few nodes."""
