"""Driver of a batch on Ray: opens the cluster, has its workers map the images, and ends them whatever happens."""

from pathlib import Path

from inference.batch.distributed.cluster import open_cluster
from inference.batch.distributed.options import RayOptions
from inference.batch.distributed.work import Work
from inference.batch.distributed.workers import Workers
from inference.common.paths import is_address, user_path
from inference.common.signals import StopHandler, raise_stopped
from inference.model.choose import choose_model
from inference.options import Options


def map_on_ray(settings: RayOptions, options: Options, journal: Path, work: Work) -> None:
    """Map the images of a batch on Ray.

    Args:
        settings: Options of Ray.
        options: Options of the maps.
        journal: Journal of the batch, which lies in the folder of the maps.
        work: The images.

    Raises:
        UserError: Ray can't be used, no worker can start, or the model can't be loaded.
    """
    if not len(work.queue):
        return
    needed = [*([journal] if work.local else []), *_files_read(options)]
    with open_cluster(settings, options, needed) as cluster, StopHandler(raise_stopped) as handler:
        if cluster.share.room < cluster.share.workers:
            work.bar.say(
                f"--ray: the cluster has room for {cluster.share.room:,} of {cluster.share.workers:,} workers with "
                f"{cluster.share.threads} CPUs and {cluster.share.gpus:g} GPUs each; others start when it has more"
            )
        crew = Workers(cluster, work, settings.split_px)
        try:
            crew.map_all()
        except KeyboardInterrupt:
            crew.stop()
            if handler.number is not None:  # Ray replaces the error
                raise_stopped(handler.number)
            raise
        finally:
            crew.kill()


def _files_read(options: Options) -> list[Path]:
    """Return the local files that mapping an image reads beside the image."""
    model = choose_model(backend=options.backend) if options.model is None else options.model
    given = {"--model": model, "--card": options.card, "--erase": options.erase, "--clip": options.clip}
    given["--sites"] = options.sites
    # What follows a bar is the name of a layer.
    texts = {option: str(value).partition("|")[0] for option, value in given.items() if value is not None}
    return [user_path(text, option) for option, text in texts.items() if not is_address(text)]
