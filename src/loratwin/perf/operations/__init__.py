"""Times of single operations, distilled from measured ones: the tables that ship, and what they say of any GPU."""
