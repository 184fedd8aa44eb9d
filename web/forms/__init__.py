"""The forms of the pages: what was entered, as it was entered, and what is wrong with it."""
