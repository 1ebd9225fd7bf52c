"""Rules for the wall: small trees in words and as a picture."""
