"""``medseg analyse``: what can be learned from volumes and segmentations; one file a command."""

import typer

from medseg.cli.attention import attention
from medseg.cli.instances import instances, panoptic
from medseg.cli.slice_attention import slice_attention

analyse = typer.Typer(no_args_is_help=True, help="Analyse volumes and segmentations: maps, tables, comparisons.")


@analyse.callback()
def _group() -> None:
    """Keep the commands words of the command line, however few there are."""


analyse.command()(attention)
analyse.command()(slice_attention)
analyse.command()(instances)
analyse.command()(panoptic)
