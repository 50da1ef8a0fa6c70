"""multiprocessing by spawn."""

from processes import install

install(globals(), "spawn")
