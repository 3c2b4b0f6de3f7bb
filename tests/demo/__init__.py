"""Tests of the demo model: what its pictures show."""
