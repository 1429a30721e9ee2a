"""Labelled images of a config: their files, bands, data type and normalisation, without PyTorch.

Everything that can be wrong with a data set is asked here, before the seconds that PyTorch takes to load.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from inference.common.cpu import cores, default_workers, most_workers
from inference.common.errors import UserError
from inference.common.raster import Header
from inference.common.text import limited
from inference.common.validity import check_nodata
from train.configs.config import Config, DataModuleConfig
from train.data.find_scenes import find_scenes
from train.data.foreground import BlockForeground, Foreground, find_foreground
from train.data.labels import label_rule
from train.data.normalization import Normalization, given_normalization, measured_normalization, measured_notice
from train.data.pairs import Scene, choose_bands, data_dir, join_some, whole_images
from train.data.placement import georeference_notices, label_notices, oblong_notices
from train.data.prepared import PreparedSet
from train.data.prepared_statistics import read_statistics
from train.data.reader import Reader
from train.data.stated_bands import alpha_lines, contradiction_lines, data_in_alpha, most_stated
from train.data.statistics import Statistics, label_problems, measure, merge
from train.data.undeclared import (
    SAMPLE,
    Suspects,
    auto_notices,
    detector_for,
    search,
    suspect_notices,
    with_nodata,
)

_PREPARED_SAMPLE = 8  # images of a prepared data set, which are mosaics of up to gigapixels


class LabelledImages:
    """Images and labels of the config's `data_dir`, by split.

    Args:
        config: Resolved config.

    Attributes:
        data_dir: Folder of the data set.
        scenes: Images of each split, or blocks of images; empty before `find`.
        prepared: Tables of a prepared data set; None for folders.
        bands: Bands to read, from 1.
        dtype: Data type of the images.
        rule: Label rule: classes, ignored values.
        normalization: Normalisation of pixels; None before `normalize`.
        measures: True if the normalisation is measured on the train split.
        band_colours: Colour that each band states in most images; None if none states any.
        band_descriptions: Description of each band in most images; None if none has any.
        nodata: Value of invalid pixels in files that declare none; None for no value.
        class_counts: Pixels of each class in the train split, as far as they were counted.
        notices: Lines for the user.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings: DataModuleConfig = config.data_module
        self.scenes: dict[str, list[Scene]] = {}
        self.prepared: PreparedSet | None = None
        self.bands: tuple[int, ...] = ()
        self.dtype = ""
        self.band_colours: list[str | None] | None = None
        self.band_descriptions: list[str | None] | None = None
        self.nodata: float | None = None
        self._measured_suspects: Suspects | None = None
        self.class_counts: list[int] | None = None
        self._foreground: Foreground | None = None
        self.notices: list[str] = []
        self.normalization: Normalization | None = None
        self.measures = False
        self.rule = label_rule(config)

    def prepare(self) -> None:
        """Find the files, read their headers and determine the normalisation; later calls do nothing.

        Raises:
            UserError: The data set does not fit the config; one line for each problem.
        """
        if self.normalization is not None:
            return
        problems = self.find()
        with closing(self._reader()) as reader:
            # The labels of a prepared data set were written by this code, and are read as they are needed.
            if self.prepared is None:
                problems += label_problems([s for scenes in self.scenes.values() for s in scenes], reader)
        if problems:
            raise UserError("\n".join(limited(problems)))
        self.normalize()
        self.check_foreground()
        self.notices += self._undeclared_notices() + self.alpha_notices()

    def find(self) -> list[str]:
        """Find the files and read their headers, but no pixels.

        Returns:
            Problems, one line each. If there are any, `scenes` contains the valid images.
        """
        try:
            self.data_dir = data_dir(self.settings.data_dir)
        except UserError as error:
            return [str(error)]
        problems = []
        if self.workers > most_workers():
            problems.append(
                f"data_module.num_workers: {self.workers} workers need more open files than this process may have "
                f"(allowed: 0 to {most_workers()}, or raise the limit with ulimit -n)"
            )
        found = find_scenes(self.data_dir, self.config)
        self.scenes, self.prepared = found.splits, found.prepared
        self.notices += found.notices
        problems += found.problems
        problems += self._settle_bands_and_dtype()
        images = self._whole()
        headers = [scene.image for scene in images]
        self.notices += label_notices(images, self.rule) + georeference_notices(headers) + oblong_notices(headers)
        several = [header.path for header in headers if header.pages > 1]
        if several:
            self.notices.append(f"of files with several images the first is used: {join_some(several)}")
        try:
            self._replace_nodata(sound=not problems)
        except UserError as error:
            problems.append(str(error))
        return problems

    def _replace_nodata(self, sound: bool) -> None:
        """Give the images the nodata value that the config asks for.

        Args:
            sound: False if other problems were found; then no image is searched for a value.
        """
        wanted = self.settings.nodata
        if wanted is None or not self.dtype:
            return
        if wanted == "auto":
            if not sound:
                return
            undeclared = [scene for scene in self._whole() if _declares_none(scene)]
            with closing(self._reader()) as reader:
                suspects = search(undeclared, self.bands, reader, most=len(undeclared))
            largest: dict[str, float] = {}
            for scene, suspect in suspects:  # the largest share of an image comes first
                largest.setdefault(scene.image.path, suspect.value)
            self.nodata = next(iter(largest.values())) if len(set(largest.values())) == 1 else None
            self.notices += auto_notices([(s, found) for s, found in suspects if found.value == largest[s.image.path]])
            for name, scenes in self.scenes.items():
                self.scenes[name] = [
                    with_nodata(s, largest[s.image.path]) if s.image.path in largest else s for s in scenes
                ]
            return
        if not isinstance(wanted, str):
            check_nodata("data_module.nodata", wanted, self.dtype)
            self.nodata = None if np.isnan(wanted) else float(wanted)  # NaN is invalid in any case
        for name, scenes in self.scenes.items():
            self.scenes[name] = [with_nodata(scene, self.nodata) for scene in scenes]

    def _undeclared_notices(self) -> list[str]:
        """Return notices about nodata that the images don't declare, from a sample of them if none was measured."""
        if self.settings.nodata == "none":
            return []
        suspects = self._measured_suspects
        if suspects is None:
            with closing(self._reader()) as reader:
                suspects = self.undeclared(reader)
        return suspect_notices(suspects)

    def undeclared(self, reader: Reader) -> Suspects:
        """Return nodata that the images don't declare, from a sample of them."""
        most = SAMPLE if self.prepared is None else _PREPARED_SAMPLE
        return search(self._whole(), self.bands, reader, most)

    def alpha_notices(self) -> list[str]:
        """Return notices about alpha bands that hold data, from a sample of the images."""
        with closing(self._reader()) as reader:
            found = data_in_alpha(self._whole(), self.bands, reader)
        return alpha_lines(found, self.bands)

    def normalize(self, measured: Statistics | None = None) -> None:
        """Determine the normalisation, by measuring the train split unless the config gives or implies one.

        Args:
            measured: Statistics of the train split; None to measure them if needed.

        Raises:
            UserError: It can't be measured.
        """
        self.normalization = given_normalization(self.settings, self.bands, self.dtype)
        self.measures = self.normalization is None
        if not self.measures:
            return
        if measured is None and self.prepared is not None and self.settings.nodata is None:
            measured = read_statistics(self.prepared, self.scenes["train"], self.bands)
        if measured is None:
            train = self.scenes["train"]
            # The edges of a block aren't the edges of its image, along which nodata lies.
            found = [] if self.prepared is not None else [detector_for(scene) for scene in train]
            with closing(self._reader()) as reader:
                parts, problems = measure(train, self.bands, reader, "measuring mean and std", False, found)
            if found:
                self._measured_suspects = [
                    (s, each) for s, d in zip(train, found, strict=True) for each in d.suspects()
                ]
            if problems:
                raise UserError("\n".join(limited(problems)))
            measured = merge(parts, len(self.bands), self.rule.classes)
        self.normalization = measured_normalization(self.settings, self.bands, self.dtype, measured)
        self.notices.append(measured_notice(self.settings, self.dtype, self.normalization))

    def check_foreground(self) -> None:
        """Check that the train split has foreground, where the config asks for a share of it; see `foreground`."""
        if self.settings.foreground_share:
            self.foreground(self._reader())

    def foreground(self, reader: Reader) -> Foreground | BlockForeground:
        """Return the foreground pixels of the train split: by the shares of blocks, or by reading all labels, once.

        Args:
            reader: Reader of the labels of blocks, which are read when they are needed.

        Raises:
            UserError: There are none, or a label can't be read.
        """
        scenes, background = self.scenes["train"], self.config.background_index
        found: Foreground | BlockForeground
        if self.prepared is not None:
            found = BlockForeground(scenes, reader, background)
        else:
            if self._foreground is None:
                with closing(self._reader()) as faster:
                    self._foreground = find_foreground(scenes, faster, background, "looking for foreground")
            found = self._foreground
        if not len(found):
            raise UserError(
                "data_module.foreground_share: the train split has no pixel of any class but the background (leave "
                "foreground_share out)"
            )
        return found

    def _settle_bands_and_dtype(self) -> list[str]:
        """Determine bands and data type, which must be the same in all files; return problems, one line each."""
        problems, chosen = [], []
        for scene in self._whole():
            try:
                chosen.append((scene, choose_bands(scene, self.settings.bands, self.config.num_bands)))
            except UserError as error:
                problems.append(str(error))
        if not chosen:
            return problems
        # The majority decides; the other files are reported.
        self.dtype, _ = Counter(scene.image.dtype for scene, _ in chosen).most_common(1)[0]
        self.bands, _ = Counter(bands for _, bands in chosen).most_common(1)[0]
        for scene, bands in chosen:
            if scene.image.dtype != self.dtype:
                problems.append(
                    f"{scene.pair.image}: is {scene.image.dtype}, most images are {self.dtype} (all must be the same)"
                )
            elif bands != self.bands:
                problems.append(
                    f"{scene.pair.image}: its alpha band has another number than in most images (set data_module.bands)"
                )
        problems += self._colour_problems([scene.image for scene, bands in chosen if bands == self.bands])
        try:
            self._check_fill_value()
            given_normalization(self.settings, self.bands, self.dtype)
        except UserError as error:
            problems.append(str(error))
        return problems

    def _colour_problems(self, headers: Sequence[Header]) -> list[str]:
        """Determine what the bands state of themselves; return images that contradict the others, one line each."""
        self.band_colours = most_stated(headers, self.bands, lambda header: header.colours)
        self.band_descriptions = most_stated(headers, self.bands, lambda header: header.descriptions)
        lines = contradiction_lines(headers, self.bands, self.band_colours, chosen=self.settings.bands is not None)
        if self.settings.bands is None:
            return lines
        self.notices += lines
        return []

    def _check_fill_value(self) -> None:
        value, integer = self.settings.fill_value, np.dtype(self.dtype).kind in "iu"
        info = np.iinfo(self.dtype) if integer else np.finfo(np.float32)
        with np.errstate(over="ignore"):  # NumPy compares as float32, in which a value beyond the range is infinite
            inside = info.min <= value <= info.max
        if not inside:
            raise UserError(
                f"data_module.fill_value: {value:g} is not a value of {self.dtype} "
                f"(allowed: {info.min:g} to {info.max:g})"
            )
        if integer and not float(value).is_integer():
            raise UserError(
                f"data_module.fill_value: {value:g} is not a whole number (allowed: whole numbers, for {self.dtype})"
            )

    def _whole(self) -> list[Scene]:
        """Return a scene for each image of all splits, whole where the scenes are blocks of it."""
        return whole_images(scene for found in self.scenes.values() for scene in found)

    @property
    def workers(self) -> int:
        """Number of worker processes that read and augment."""
        return default_workers() if self.settings.num_workers is None else self.settings.num_workers

    def _reader(self) -> Reader:
        """Return a reader for this process, which uses all cores."""
        return Reader(self.rule, self.settings.fill_value, cores())


def _declares_none(scene: Scene) -> bool:
    return all(value is None for value in scene.image.nodata)
