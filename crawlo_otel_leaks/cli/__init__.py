"""The crawlo-leaks command: one file a subcommand."""
