"""What runs the containers: their health checks, and the rolling restart."""
