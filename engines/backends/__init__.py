"""One module per engine library; each is imported by name, and only when it is asked for."""
