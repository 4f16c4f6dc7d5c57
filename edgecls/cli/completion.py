"""``edgecls completion``."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

__all__ = ["completion"]

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(edgecls completion bash)"                                   in ~/.bashrc
    zsh:   eval "$(edgecls completion zsh)"                                    in ~/.zshrc
    fish:  edgecls completion fish > ~/.config/fish/completions/edgecls.fish
    """
    complete = _SHELLS[shell](ctx.find_root().command, {}, "edgecls", "_EDGECLS_COMPLETE")
    click.echo(complete.source())
