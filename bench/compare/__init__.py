"""The same saga on this project's engine and on others, side by side: see ``bench/README.md``."""
