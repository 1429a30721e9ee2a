"""`python inference.py IN.tif OUT.tif`, or `python -m inference.inference`: the command line, nothing else."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__" and not __package__:
    # Run as a file, Python looks for modules in this folder first, where this file would hide the package of its name.
    _folder = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == _folder:
        sys.path[0] = str(_folder.parent)
    # And the package is this folder, whatever a copy of it is called.
    _spec = importlib.util.spec_from_file_location(
        "inference", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["inference"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["inference"])

EPILOG = """\
examples:
  python inference.py mosaic.tif kelp.tif
  python inference.py mosaic.tif kelp.tif --model weights/kelp.onnx --probabilities p.tif --threshold 0.4
  python inference.py mosaic.tif kelp.tif --model kelp.onnx --backend openvino --precision bf16
  python inference.py https://example.org/mosaic.tif kelp.tif --bands 3,2,1

exit codes: 0 done, 1 our fault, 2 something to mend in your input, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message} ({self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The arguments. What isn't given is left to `inference.plan.Options`, the one place that knows the defaults."""
    arguments = _Parser(
        prog="inference.py",
        description="Map a mosaic of any size with an exported model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = arguments.add_argument
    add("source", metavar="IN.tif", help="the mosaic: anything GDAL reads, /vsicurl/ and s3:// addresses included")
    add("target", metavar="OUT.tif", help="the map: a GeoTIFF on the mosaic's grid, class numbers as uint8")
    model = arguments.add_argument_group("model")
    model.add_argument("--model", metavar="FILE", help=".onnx or .pt (default: the one in inference/weights)")
    model.add_argument(
        "--card", metavar="FILE.json", help="model card, ours or habitat-mapper's (default: the model's)"
    )
    model.add_argument("--backend", choices=("auto", "onnxruntime", "torchscript", "openvino"), help="default: auto")
    model.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="default: auto")
    model.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: fp32, the same everywhere")
    model.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all)")
    tiles = arguments.add_argument_group("tiles")
    tiles.add_argument("--tile-size", type=int, metavar="N", help="side of a tile, pixels (default: the card's)")
    tiles.add_argument("--overlap", type=float, metavar="X", help="share of a tile, 0 to 0.9 (default: 0.5)")
    tiles.add_argument("--window", choices=("bartlett-hann", "hann", "none"), help="default: bartlett-hann")
    tiles.add_argument("--batch-size", type=int, metavar="N", help="tiles at a time (default: 1)")
    tiles.add_argument("--tta", action="store_true", help="average over the eight flips and turns: 8 times the work")
    mosaic = arguments.add_argument_group("mosaic")
    mosaic.add_argument(
        "--bands", type=_bands, nargs="+", metavar="B", help="bands to read, such as 3,2,1 (default: card's)"
    )
    mosaic.add_argument(
        "--nodata", type=_nodata, metavar="X", help="value of invalid pixels, or none (default: file's)"
    )
    mosaic.add_argument(
        "--max-pixel-value", type=float, metavar="X", help="what pixels are divided by (default: card's)"
    )
    mosaic.add_argument("--resample", action="store_true", help="read at the card's ground sample distance")
    out = arguments.add_argument_group("output")
    out.add_argument(
        "--threshold", type=float, metavar="P", help="target where the probability is above (default: card's)"
    )
    out.add_argument(
        "--probabilities", metavar="OUT2.tif", help="write these too: float32, a band a class, NaN: invalid"
    )
    out.add_argument("--no-cog", dest="cog", action="store_false", help="leave out the cloud-optimised layout: faster")
    out.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return arguments


def _bands(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _nodata(text: str) -> float | str:
    return "none" if text.lower() == "none" else float(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options: dict[str, Any] = vars(parser().parse_args(argv))
    if "bands" in options:
        options["bands"] = [band for part in options["bands"] for band in part]
    # GDAL's threads write their errors straight to stderr; what matters of them is in ours.
    os.environ.setdefault("CPL_LOG", os.devnull)
    # Under its own name, so that the errors it raises are the ones that are caught here.
    from inference.common.errors import UserError, is_interruption

    try:
        from inference.predict import predict

        summary = predict(options.pop("source"), options.pop("target"), progress=True, **options)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BaseException as error:
        if not is_interruption(error):
            raise
        sys.stderr.write("interrupted\n")
        return 130
    sys.stdout.write(f"{summary}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
