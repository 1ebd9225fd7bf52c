"""How models are compared and fitted; needs `loratwin[learn]`."""
