"""multiprocessing by forkserver."""

from processes import install

install(globals(), "forkserver")
