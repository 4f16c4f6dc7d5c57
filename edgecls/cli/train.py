"""``edgecls train``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import labels_option, preprocess_option, training_packages
from .param_types import NumberRange, ParamType
from .sections import SectionedCommand, section

if TYPE_CHECKING:
    from edgecls.training.config import TrainingConfig

__all__ = ["train"]

_LARGEST = 7168  # pixels; resized in the proportion 256 : 224 that is 8192, the longest side of a preprocess
_GOES_WITH_RESUME = {"device", "workers"}  # of the machine: neither changes what is learnt


class _Channels(ParamType[Any]):
    name = "auto|R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take three numbers, or one for all channels, or ``auto``."""
        if value == "auto":
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is neither auto nor one or three numbers, say 0.5,0.5,0.5", param, ctx)
        return tuple(numbers * 3 if len(numbers) == 1 else numbers)


_data, _model, _vary = section("Data"), section("Model"), section("Augmentation")
_learn, _machine, _run = section("Optimization"), section("Machine"), section("Run folder")
_share, _positive = NumberRange(0, 1), click.IntRange(min=1)


@click.command(cls=SectionedCommand)
@click.argument("data", required=False, metavar="DATA")
@_data("--task", type=click.Choice(["single", "multilabel"]), default="single", show_default=True, help="Labels each.")
@_data("--labels-from", type=click.Choice(["folder", "name"]), default="folder", show_default=True)
@_data("--val-split", type=NumberRange(0, 1, min_open=True, max_open=True), help="Share of each class to hold out.")
@labels_option
@preprocess_option
@_data("--image-size", type=click.IntRange(8, _LARGEST), help="Side of the input, pixels.  [default: the weights']")
@_data("--mean", type=_Channels(), metavar="auto|R,G,B", help="Instead of the weights'; auto measures the pictures.")
@_data("--std", type=_Channels(), metavar="auto|R,G,B", help="Likewise.")
@_data("--strict", is_flag=True, help="Refuse unreadable pictures instead of leaving them out.")
@_data("--allow-duplicates", is_flag=True, help="Accept the same picture in both splits.")
@_model("--arch", default="mobilenet_v2", show_default=True, help="A name from `edgecls models`.")
@_model("--weights", default="default", metavar="default|none|FILE", show_default=True, help="Where to begin.")
@_model(
    "--freeze", type=click.Choice(["none", "features"]), default="none", show_default=True, help="What not to train."
)
@_model("--unfreeze-after", type=_positive, metavar="EPOCHS", help="Train everything from then on.")
@_model("--dropout", type=_share, help="Probability, instead of the architecture's.")
@_model("--batchnorm-momentum", type=_share, help="Instead of the architecture's.")
@_model("--teacher", metavar="CHECKPOINT", help="A larger model to be drawn to.")
@_model("--distillation", type=_share, default=0.5, show_default=True, help="The teacher's share of the loss.")
@_model("--temperature", type=NumberRange(0, min_open=True), default=2.0, show_default=True, help="Of its scores.")
@_vary(
    "--augment",
    type=click.Choice(["none", "light", "standard", "strong"]),
    default="standard",
    show_default=True,
    help="How much to vary the pictures.",
)
@_vary("--no-flip", is_flag=True, help="No mirror images: digits and letters are not symmetric.")
@_learn("--epochs", type=_positive, default=15, show_default=True)
@_learn("--batch-size", type=_positive, default=32, show_default=True, help="Pictures a step, over all processes.")
@_learn("--accumulate", type=_positive, default=1, show_default=True, help="Micro-batches a step, to save memory.")
@_learn("--optimizer", type=click.Choice(["adamw", "sgd", "rmsprop"]), default="adamw", show_default=True)
@_learn("--lr", type=NumberRange(0, min_open=True), help="Learning rate of the head.  [default: by optimizer]")
@_learn("--backbone-lr-factor", type=NumberRange(0), default=0.1, show_default=True, help="Share for the rest.")
@_learn("--weight-decay", type=NumberRange(0), help="Not of biases and normalization.  [default: by optimizer]")
@_learn("--momentum", type=_share, default=0.9, show_default=True, help="Of sgd and rmsprop.")
@_learn("--schedule", type=click.Choice(["cosine", "step", "constant"]), default="cosine", show_default=True)
@_learn("--warmup-epochs", type=NumberRange(0), default=1.0, show_default=True)
@_learn("--step-epochs", type=NumberRange(0, min_open=True), default=5.0, show_default=True, help="For step.")
@_learn("--step-gamma", type=_share, default=0.1, show_default=True, help="For step.")
@_learn("--clip-norm", type=NumberRange(0, min_open=True), help="Longest gradient.")
@_learn("--label-smoothing", type=_share, default=0.0, show_default=True)
@_learn("--class-weights", type=click.Choice(["none", "balanced"]), default="none", show_default=True)
@_learn("--balanced-sampling", is_flag=True, help="Draw every class equally often.")
@_learn("--ema", type=_share, metavar="DECAY", help="Keep a moving average of the weights, say 0.999.")
@_learn("--patience", type=_positive, metavar="EPOCHS", help="End when nothing gets better for so long.")
@_machine("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@_machine(
    "--amp", type=click.Choice(["none", "bf16", "fp16"]), default="none", show_default=True, help="Mixed precision."
)
@_machine("--channels-last/--no-channels-last", default=True, show_default=True, help="Memory format.")
@_machine("--compile", is_flag=True, help="Use torch.compile.")
@_machine("--sync-batchnorm", is_flag=True, help="Share statistics among GPUs.")
@_machine("--workers", type=click.IntRange(min=0), help="Processes that load pictures.  [default: CPUs, at most 8]")
@_machine("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@_machine("--deterministic", is_flag=True, help="Refuse operations that vary from run to run.")
@_run("--output", "-o", type=click.Path(path_type=Path), help="Folder to write.  [default: runs/ARCH]")
@_run("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on in this folder, as it was told then.")
@_run("--save-every", type=_positive, metavar="STEPS", help="Save within an epoch, too.")
@_run("--tensorboard", is_flag=True, help="Write its event files, too.")
@click.pass_context
def train(ctx: click.Context, /, data: str | None, output: Path | None, resume: Path | None, **options: Any) -> None:
    """Learn from labelled pictures, and leave a run folder.

    DATA is a folder with train/ and val/, each with a folder for every class; or one such folder and --val-split; or a
    CSV or JSON list. RUN/best.pt is what to export. Several GPUs: torchrun --nproc-per-node N -m edgecls train ...
    """
    if (data is None) == (resume is None):
        raise click.UsageError("Give DATA to train on, or --resume RUN to go on.")
    with training_packages():
        from PIL import Image

        from edgecls.training.loop import train as run_training
        from edgecls.training.run_folder import RunFolder
        from edgecls_runtime.cpus import usable_cpus

        from .training_progress import make_progress
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it becomes an error that says more
    if resume is not None:
        changes = {}
        for name, value in {"output": output, **options}.items():
            if ctx.get_parameter_source(name) != click.core.ParameterSource.COMMANDLINE:
                continue
            if name not in _GOES_WITH_RESUME:
                raise click.UsageError(f"--{name.replace('_', '-')}: --resume goes on as RUN was told; leave it out.")
            changes[name] = value
        run = RunFolder(resume)
        config = replace(run.config(), **changes)
    else:
        if options["workers"] is None:
            options["workers"] = min(8, usable_cpus())
        config = _config(str(data), options)
        run = RunFolder(output or Path("runs") / config.arch)
    result = run_training(config, run, resume=resume is not None, progress=make_progress(run, config))
    if result.rank > 0:  # the first process speaks for all
        ctx.exit(0 if result.stopped_by is None else 128 + result.stopped_by)
    if result.stopped_by is not None:
        click.echo(f"stopped by {result.stopped_by.name} after {result.epochs} whole epochs", err=True)
        click.echo(f"go on with: edgecls train --resume {run.path}", err=True)
        ctx.exit(128 + result.stopped_by)
    click.echo(f"best: {run.best}, of epoch {result.best_epoch}; next: edgecls export {run.best}")


def _config(data: str, options: dict[str, Any]) -> TrainingConfig:
    from edgecls.training.augmentation import PRESETS
    from edgecls.training.config import DEFAULT_LR, DEFAULT_WEIGHT_DECAY, TrainingConfig

    augmentation = PRESETS[options.pop("augment")]
    if options.pop("no_flip"):
        augmentation = replace(augmentation, flip=0.0)
    optimizer = options["optimizer"]
    options["lr"] = options["lr"] or DEFAULT_LR[optimizer]
    if options["weight_decay"] is None:
        options["weight_decay"] = DEFAULT_WEIGHT_DECAY[optimizer]
    try:
        return TrainingConfig(data=data, augmentation=augmentation, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
