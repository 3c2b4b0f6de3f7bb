"""Side-by-side measurements; each script's docstring has the command that made its figures."""
