"""How fast a model runs on this machine, told so that a build server can trust it. Never imports torch."""
