"""Archives that lie elsewhere."""
