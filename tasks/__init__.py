"""The services. One module is one service with its own tables and its own queue; none of them imports another."""
