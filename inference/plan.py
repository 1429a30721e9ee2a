"""Plan of a run: all decisions and checks, made before a model is loaded."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference.card import ModelCard
from inference.common.areas import FIX_GEOREFERENCE, georeference_problem
from inference.common.cpu import cores, has_tile_units
from inference.common.errors import UserError
from inference.common.paths import file_name, user_path, user_source
from inference.common.raster import Header, read_header
from inference.common.targets import TIFF_SUFFIXES, check_no_input, check_space, check_target
from inference.model.backends import Request, choose_backend
from inference.model.choose import card_for, check_model_file, choose_model
from inference.options import Options
from inference.tiles.reading import plan_reading
from inference.tiles.strips import Source
from inference.tiles.tiling import Axis

if TYPE_CHECKING:
    from inference.vector.outputs import VectorPlan


@dataclass(frozen=True)
class Plan:
    """Plan of a run.

    Attributes:
        options: Options of the user.
        source: Mosaic, with the bands and values to read.
        target: Path of the map.
        probabilities: Path of the probabilities; None to write none.
        card: Model card.
        backend: Library that runs the network.
        request: Settings for that library.
        mean: Mean of each band, units of the file.
        std: Standard deviation of each band, units of the file.
        threshold: Probability above which a pixel is of class 1, of two.
        rows: Tiles from top to bottom, on the network's grid.
        cols: Tiles from left to right.
        factor: Height and width of the mosaic's pixels over the side of the network's; None if the grids are the same.
        notices: Notices for the user, a line each.
        vector: Plan of polygons and table of sites; None to write none.
        compress: False to write probabilities that are read once and deleted: compression takes longer than all the
            rest of mapping without the network.
    """

    options: Options
    source: Source
    target: Path
    probabilities: Path | None
    card: ModelCard
    backend: str
    request: Request
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    threshold: float
    rows: Axis
    cols: Axis
    factor: tuple[float, float] | None
    notices: tuple[str, ...]
    vector: "VectorPlan | None" = None
    compress: bool = True


def make_plan(
    source: str | Path, target: str | Path, options: Options, *, every_site: bool = True, clear: bool = True
) -> Plan:
    """Make the plan of a run; writes nothing.

    Args:
        source: Path or address of the mosaic.
        target: Path of the map.
        options: Options of the user.
        every_site: False for a table without the sites that don't lie on the map.
        clear: False where stale temporary files beside the outputs were cleared, see `check_target`.

    Raises:
        UserError: The input, the model or an option is invalid; one line per problem.
    """
    options.check()
    path = user_source(source, "IN.tif")
    given_model = None if options.model is None else user_path(options.model, "--model")
    given_card = None if options.card is None else user_path(options.card, "--card")
    inputs: dict[str | Path, str] = {path: "the input itself"}
    inputs |= {file: what for file, what in ((given_model, "the model"), (given_card, "the model's card")) if file}
    common: dict[str, Any] = {"overwrite": options.overwrite, "inputs": inputs, "clear": clear}
    target = check_target(target, "OUT.tif", suffixes=TIFF_SUFFIXES, **common)
    probabilities = None
    if options.probabilities is not None:
        probabilities = check_target(options.probabilities, "--probabilities", suffixes=TIFF_SUFFIXES, **common)
        if probabilities.resolve() == target.resolve():
            raise UserError(f"--probabilities: {probabilities} is the map itself (choose another file)")
        check_no_input(probabilities, "--probabilities", {target: "the map itself"})
    header = read_header(path)
    model = choose_model(backend=options.backend) if given_model is None else given_model
    check_model_file(model)
    read = dict.fromkeys(header.files, f"a part of {path}") | {model: "the model"}
    check_no_input(target, "OUT.tif", read)
    if probabilities is not None:
        check_no_input(probabilities, "--probabilities", read)
    backend = choose_backend(model, options.backend, options.precision)
    card = card_for(model, given_card, header.dtype)
    notices: list[str] = []
    reading = plan_reading(header, card, options, notices)
    bands, threads = reading.bands, options.threads or cores()
    if backend == "openvino" and options.precision != "fp32" and has_tile_units() is False:
        notices.append(
            f"--precision {options.precision}: this CPU has no AMX, so that OpenVINO is slower than in fp32 (use fp32)"
        )
    problem = georeference_problem(header.crs, header.transform, header.height, header.width)
    if problem is not None:
        notices.append(f"{path}: its georeference is wrong: {problem} ({FIX_GEOREFERENCE}); areas aren't known")
    if header.crs is None:
        notices.append(f"{path}: has no coordinate reference system, so the map has none, and areas aren't known")
    mean, std = np.array(card.mean) * reading.divisor, np.array(card.std) * reading.divisor
    vector = None
    if options.polygons is not None or options.table is not None or options.qgis_style:
        outputs = {target: "the map itself"} | ({} if probabilities is None else {probabilities: "the probabilities"})
        vector = _vector_plan(header, card, options, read | inputs, outputs, every_site, clear)
        notices += vector.notices
    for file in (target, probabilities):
        if file is not None:
            check_space(
                file.parent, room_for(header, card, file is probabilities, options.cog), "--no-cog halves the need"
            )
    return Plan(
        options=options,
        source=Source(header, bands, card.fill_value, reading.nodata, threads),
        target=target,
        probabilities=probabilities,
        card=card,
        backend=backend,
        request=request_for(model, card, options, _raw_type(header, card, mean, std)),
        mean=mean,
        std=std,
        threshold=_threshold(card, options),
        rows=reading.rows,
        cols=reading.cols,
        factor=reading.factor,
        notices=tuple(notices),
        vector=vector,
    )


def request_for(model: Path, card: ModelCard, options: Options, raw: str | None = None) -> Request:
    """Return the settings for the library that runs a network.

    Args:
        model: File of the network.
        card: Its card.
        options: Options of the user.
        raw: Type of the mosaic if the network gets its values as they are; None if they are normalised.
    """
    return Request(
        path=model,
        bands=len(card.bands),
        tile=options.tile_size or card.tile_size,
        batch=options.batch_size or 1,
        device=options.device,
        precision=options.precision,
        threads=options.threads or cores(),
        any_size=card.any_size,
        own_tile=card.tile_size,
        int8=card.precision == "int8",
        output_name=card.output_name,
        raw=raw,
    )


def _vector_plan(
    header: Header,
    card: ModelCard,
    options: Options,
    inputs: dict[str | Path, str],
    targets: dict[Path, str],
    every_site: bool,
    clear: bool,
) -> "VectorPlan":
    """Return the plan of polygons and table of sites; `targets` are the map, first, and further files."""
    from inference.common.vector import vector_libraries

    vector_libraries()
    from inference.vector.features import MapInfo
    from inference.vector.plan import plan_vectors

    info = MapInfo(
        header,
        card.class_names,
        card.background_index,
        image=file_name(header.path),
        date=options.date or header.date,
        model=card.name,
        revision=card.revision or "",
    )
    return plan_vectors(
        options,
        info,
        overwrite=options.overwrite,
        map_path=next(iter(targets)),
        inputs=inputs,
        targets=targets,
        argument="--polygons",
        every_site=every_site,
        clear=clear,
    )


def _raw_type(header: Header, card: ModelCard, mean: NDArray[np.float64], std: NDArray[np.float64]) -> str | None:
    """Return the mosaic's type if the network gets its values as they are; None if they are normalised."""
    unchanged = card.normalization == "standard" and not mean.any() and bool((std == 1).all())
    return header.dtype if unchanged else None


def _threshold(card: ModelCard, options: Options) -> float:
    if len(card.class_names) > 255:
        raise UserError(f"the model has {len(card.class_names)} classes, a map can show 255")
    if options.threshold is None:
        return card.threshold if card.activation == "sigmoid" else 0.5
    if len(card.class_names) > 2:
        raise UserError(f"--threshold: is for two classes, the model has {len(card.class_names)} (leave it out)")
    return options.threshold


def room_for(header: Header, card: ModelCard, floats: bool, cog: bool) -> float:
    """Return the bytes that a file may need: at most a map's entropy; a COG is a copy with overviews."""
    classes = len(card.class_names)
    bits = 32 * classes if floats else 1 + math.log2(classes)
    return header.height * header.width * bits / 8 * (7 / 3 if cog else 1)
