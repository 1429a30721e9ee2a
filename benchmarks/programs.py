"""Programs that inference.py is measured against, each run in a process of its own."""

PLAIN_COPY = """
import sys, numpy as np, rasterio
from rasterio.windows import Window
with rasterio.Env(GDAL_CACHEMAX=32 * 2**20), rasterio.open(sys.argv[1], num_threads="all_cpus") as source:
    width, profile = source.width, dict(driver="GTiff", dtype="uint8", count=1, compress="deflate", zlevel=1)
    profile |= dict(tiled=True, blockxsize=512, blockysize=512, crs=source.crs, transform=source.transform)
    profile |= dict(height=source.height, width=width, num_threads="all_cpus")
    with rasterio.open(sys.argv[2], "w", **profile) as target:
        for row in range(0, source.height, 512):
            rows = min(512, source.height - row)
            source.read(window=Window(0, row, width, rows))
            target.write(np.zeros((1, rows, width), np.uint8), window=Window(0, row, width, rows))
"""
"""Copy a mosaic: read it, and write an empty mask."""

BARE_FORWARD = """
import sys, time, numpy as np
path, count, size, threads, *hint = sys.argv[2], *map(int, sys.argv[3:6]), *sys.argv[6:]
tile = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
if sys.argv[1] == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: all cores, as in OpenVINO
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    run = lambda: session.run(None, {name: tile})
else:
    import openvino
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({model.inputs[0]: list(tile.shape)})
    options = {"INFERENCE_PRECISION_HINT": hint[0], "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    run_ = core.compile_model(model, "CPU", options)
    run = lambda: run_(tile, share_inputs=True)
run()
began, used = time.perf_counter(), time.process_time()
for _ in range(count):
    run()
print(time.perf_counter() - began, time.process_time() - used)
"""
"""Run a network on one tile again and again: library, model, tiles, tile size, threads (0: all), precision hint."""

HABITAT_MAPPER = """
import sys, onnxruntime
from habitat_mapper.config import ModelConfig
from habitat_mapper.model import ONNXModel
source, target, path, activation, size, threads = sys.argv[1:]
options, session = onnxruntime.SessionOptions(), onnxruntime.InferenceSession
options.intra_op_num_threads = int(threads)  # it has no option of its own
onnxruntime.InferenceSession = lambda path, providers: session(path, options, providers=providers)
config = ModelConfig(
    name="benchmark", revision="20260101", dependencies=[path], model_filename=path.rpartition("/")[2],
    activation=activation if activation != "none" else None, max_pixel_value=255,
)
ONNXModel(config).process(source, target, crop_size=int(size), blur_kernel_size=0, quiet=True)
"""
"""Map a mosaic with habitat-mapper: mosaic, map, model, activation, tile size, threads (0: all)."""
