"""What the worker processes run, a module for each contestant; ``open_driver`` says how its sagas are started."""
