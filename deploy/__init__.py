"""Container operations: health checks and the rolling restart."""
