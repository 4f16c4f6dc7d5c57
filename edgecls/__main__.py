"""``python -m edgecls``."""

from edgecls.cli import main

main()
