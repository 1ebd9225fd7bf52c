"""What `loratwin bench` and `loratwin report` do and show: servers, files, progress, tables."""
