"""From list to list."""
