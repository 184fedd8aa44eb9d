"""A saga as people see it: its details, status, icons and the actions that it allows."""
