"""Who takes part, and how each is set up: what the report says of its settings stands beside what sets them."""
