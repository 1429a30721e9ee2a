"""Survey of a data set: statistics of every image, from all of its pixels."""

from contextlib import closing
from dataclasses import dataclass

from inference.common.cpu import cores
from inference.common.errors import UserError
from inference.common.progress import progress
from inference.common.text import limited
from train.data.labelled_images import LabelledImages
from train.data.reader import Reader
from train.data.statistics import Statistics, measure, merge
from train.data.undeclared import Suspects, detector_for


@dataclass(frozen=True)
class Survey:
    """Statistics of a data set.

    Attributes:
        images: Labelled images, prepared.
        statistics: Statistics of each image, by split.
        suspects: Nodata that the images don't declare.
    """

    images: LabelledImages
    statistics: dict[str, list[Statistics]]
    suspects: Suspects


def survey(data: LabelledImages) -> Survey:
    """Find the images and labels of a config, and read every pixel of every split.

    Args:
        data: Labelled images; their normalisation is determined, and the classes of their train split are counted.

    Raises:
        UserError: The data set does not fit the config; one line for each problem, among them each file that can't be
            decoded and each label of no class.
    """
    problems = data.find()
    scenes = [(split, scene) for split, found in data.scenes.items() for scene in found]
    statistics: dict[str, list[Statistics]] = {split: [] for split in data.scenes}
    suspects: Suspects = []
    unreadable: list[str] = []
    with closing(Reader(data.rule, data.settings.fill_value, cores())) as reader:
        for split, scene in progress(scenes, len(scenes), "reading images and labels"):
            # With other problems the bands are unknown, and all of each image are read.
            bands = range(1, scene.image.count + 1) if problems else data.bands
            # The edges of a block aren't the edges of its image, along which nodata lies.
            detectors = [] if scene.block is not None else [detector_for(scene)]
            found, wrong = measure([scene], bands, reader, scene.name, detectors=detectors)
            suspects += [(scene, suspect) for detector in detectors for suspect in detector.suspects()]
            statistics[split] += found
            unreadable += wrong
        if data.prepared is not None and not problems:
            suspects = data.undeclared(reader)
    if problems or unreadable:
        raise UserError("\n".join(limited([*problems, *unreadable])))
    train = merge(statistics["train"], len(data.bands), data.rule.classes)
    data.normalize(train)
    data.check_foreground()
    data.class_counts = [int(count) for count in train.class_counts]
    return Survey(data, statistics, suspects)
