"""How models are compared and fitted; needs `loratwin[learn]`."""

from loratwin.extras import required

required("sklearn", "learning", "learn")  # said here in one line, and not by the first module that imports it
