"""multiprocessing by fork."""

from processes import install

install(globals(), "fork")
