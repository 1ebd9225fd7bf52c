"""What `loratwin simulate` shows and writes."""
