"""`python -m antaeus` is the command line."""

from antaeus.cli import main

main()
