"""View models of a saga: details, status text, icons and available actions."""
