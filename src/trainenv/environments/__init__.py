"""Build: from a specification over a lock to a prefix."""
