"""How objects show themselves: HTML for notebooks, and a text twin that states the same facts.

Each module is named after what it shows and has two functions, ``html`` and ``text``. Objects know nothing of how they
look; their ``_repr_html_`` and ``__repr__`` call these.
"""
