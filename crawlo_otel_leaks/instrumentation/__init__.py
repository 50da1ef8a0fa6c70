"""One file per watched library; each is a table of wrap points and the handles they make."""
