"""The read side: queries for pages and clients. Nothing here changes anything."""
