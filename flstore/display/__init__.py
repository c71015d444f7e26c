"""How objects show themselves: HTML for notebooks, and a text twin."""
