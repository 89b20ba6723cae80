"""Lists: rows chosen one place after the other from ranked candidates, under all that a list is held to."""
