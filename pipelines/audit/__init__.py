"""The audit: what became of an item on a user's shelf; one SQL tells it of a release and of a night at work."""
