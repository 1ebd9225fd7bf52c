"""Tables of the engines."""
