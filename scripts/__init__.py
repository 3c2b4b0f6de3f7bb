"""The project's own chores: the check script and what it calls."""
