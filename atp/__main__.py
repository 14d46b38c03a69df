"""`python -m atp` is `atp`."""

from atp.cli.main import command

command()
