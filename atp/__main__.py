"""`python -m atp` is `atp`."""

from atp.cli import command

command()
