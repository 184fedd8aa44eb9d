"""Redis, shared by the processes of an installation that has one: changed sagas, and limits of the web."""
