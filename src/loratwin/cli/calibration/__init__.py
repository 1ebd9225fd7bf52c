"""What `loratwin calibrate` does on servers, step by step, and what it shows."""
