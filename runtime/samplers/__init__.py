"""Samplers as tables of coefficients: pure functions, one small file per family."""
