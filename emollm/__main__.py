"""``python -m emollm``: the command line."""

from emollm.cli import main

main()
