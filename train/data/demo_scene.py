"""Procedural drawing of a kelp coast seen from a drone: an image, and the label that an annotator would draw.

An elevation model determines rock, beach, shallow and deep water. The colour of water depends on its depth. Bull kelp
grows in a range of depths: each plant has a bunch of blades along the current, and sunken blades are bluer and fainter.
Wind ripples, sun glint, rock, foam and camera effects are added last. Heights are in metres above the waterline,
distances in pixels of 0.1 m, colours are RGB in 0..255, and all random numbers come from the caller's generator.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

PIXEL_SIZE = 0.1  # metres
BACKGROUND, KELP, IGNORE = 0, 1, 2

Field = npt.NDArray[np.float32]  # (H, W)
Picture = npt.NDArray[np.float32]  # (H, W, 3)
Bytes = npt.NDArray[np.uint8]

# Depths in metres where canopies start, where they are densest (from, to), and where they end.
KELP_DEPTHS = (1.0, 2.0, 7.0, 11.0)
# Visible cover, averaged over about 1 m², from which an annotator sees canopy, and from which an uncertain one.
CANOPY_COVER, UNSURE_COVER = 0.3, 0.16
# Diffuse attenuation of turbid coastal water for red, green and blue, per metre: strongest for red.
ATTENUATION = np.array((0.42, 0.17, 0.25), np.float32)
# OpenCV draws at whole pixels unless coordinates are scaled by a power of two.
SUBPIXEL_BITS = 3
# From shaded undersides to sunlit blades.
BLADE_COLOURS = np.array(((86, 62, 56), (124, 90, 72), (160, 118, 76), (202, 160, 102)), np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Parameters of a stretch of coast.

    Attributes:
        shore: Type of the shore.
        waterline: Position of the waterline as a share of the way from the landward to the seaward corner; below 0 the
            land lies outside the image.
        kelp: Share of the suitable depths that carries canopy, 0 to 1.
        islets: Scale of the islets' height above the general slope, in metres.
    """

    shore: Literal["rock", "sand"]
    waterline: float
    kelp: float
    islets: float = 0.0


def draw_scene(rng: np.random.Generator, site: Site, height: int, width: int) -> tuple[Bytes, Bytes]:
    """Draw one site.

    Args:
        rng: Generator of all random numbers; the same state gives the same scene.
        site: Parameters of the coast.
        height: Rows, in pixels of 0.1 m.
        width: Columns, in pixels of 0.1 m.

    Returns:
        The image `(H, W, 3)` uint8 RGB and the label `(H, W)` uint8: 0 background, 1 kelp, 2 uncertain.
    """
    shape = (height, width)
    elevation = _elevation(rng, site, shape)
    sun = _direction(rng.uniform(0, 2 * math.pi))
    water = _water(rng, site, elevation)
    picture, cover = _kelp(rng, site, elevation, water)
    picture = _surface(rng, picture, cover, sun)
    land = np.clip(elevation / 0.12 + 0.5, 0, 1)
    cover *= 1 - land
    picture = _blend(picture, _land(rng, site, elevation, sun), land)
    picture = _foam(rng, picture, elevation)
    return _photograph(rng, picture), _annotate(rng, cover)


def _elevation(rng: np.random.Generator, site: Site, shape: tuple[int, int]) -> Field:
    """Return the elevation (H, W) in metres above the waterline: a seaward slope with smooth noise and islets."""
    rows, cols = np.indices(shape, dtype=np.float32)
    across, down = _direction(rng.uniform(0, 2 * math.pi))
    along = (cols - shape[1] / 2) * across + (rows - shape[0] / 2) * down
    waterline = along.min() + (along.max() - along.min()) * (site.waterline + rng.uniform(-0.08, 0.08))
    slope, relief = (0.22, 1.1) if site.shore == "rock" else (0.12, 0.45)
    elevation = slope * PIXEL_SIZE * (waterline - along) + relief * fractal_noise(rng, shape, 130, 5)
    if site.islets:
        elevation += site.islets * np.clip(fractal_noise(rng, shape, 110, 4) - 0.9, 0, None)
    return np.asarray(elevation, np.float32)


def _water(rng: np.random.Generator, site: Site, elevation: Field) -> Picture:
    """Draw the sea without its surface: the bottom seen through water, plus the light scattered by the water."""
    shape = elevation.shape
    depth = np.clip(-elevation, 0, None)[..., None]
    sandy = _step(fractal_noise(rng, shape, 90, 4) + (0.9 if site.shore == "sand" else -0.9), 0.25)
    mottle = fractal_noise(rng, shape, 14, 4, gain=0.7)[..., None]
    algae = _colour(106, 98, 58) + mottle * _colour(30, 25, 14)
    sand = _colour(176, 176, 130) + mottle * 5
    bottom = _blend(algae, sand, sandy)
    body = _blend(_colour(60, 88, 86), _colour(64, 80, 96), np.full(shape, rng.uniform(), np.float32))
    body += fractal_noise(rng, shape, 200, 3)[..., None] * _colour(3, 5, 4)
    # Light passes through the water twice: down to the bottom and back up.
    seen = np.exp(-2 * rng.uniform(0.7, 1.2) * ATTENUATION * depth)
    return _mix(body, bottom, seen)


def _kelp(rng: np.random.Generator, site: Site, elevation: Field, water: Picture) -> tuple[Picture, Field]:
    """Draw the kelp into the water.

    Returns:
        The image and the visible cover `(H, W)` in 0..1.
    """
    if not site.kelp:
        return water, np.zeros(elevation.shape, np.float32)
    height, width = elevation.shape
    suits = np.interp(-elevation, KELP_DEPTHS, (0, 1, 1, 0)).astype(np.float32)
    clumps = fractal_noise(rng, elevation.shape, 105, 4, gain=0.45)
    threshold = np.quantile(clumps[suits > 0.5], 1 - site.kelp) if (suits > 0.5).any() else np.inf
    density = _step(clumps - threshold, 0.2) * suits

    candidates = int(height * width / 100)
    x, y = rng.uniform(0, width, candidates), rng.uniform(0, height, candidates)
    here = density[y.astype(int), x.astype(int)]
    grown = rng.uniform(0, 1, candidates) < here
    x, y, here = x[grown], y[grown], here[grown]
    # The current pulls plants at the edge of a canopy under water.
    sunk = np.clip(rng.normal(0.55, 0.2, x.size) - 0.6 * here, 0, 0.8)

    blades = rng.integers(5, 12, x.size)
    plant = np.repeat(np.arange(x.size), blades)
    # The deepest first, so that higher blades cover them.
    plant = plant[np.argsort(-(sunk[plant] + rng.normal(0, 0.1, plant.size)), kind="stable")]
    paths = _blade_paths(rng, elevation.shape, x, y, plant)
    tint = rng.normal(0, 3, 3)
    lit = rng.normal(1.2, 0.5, x.size)[plant] + rng.normal(0, 0.7, plant.size)
    steps = np.arange(len(BLADE_COLOURS))
    colours = np.stack([np.interp(lit, steps, channel) for channel in BLADE_COLOURS.T], axis=1) + tint
    dip = sunk[plant][:, None]
    below = water[y.astype(int), x.astype(int)][plant] * 0.82 + (6, 0, -2)
    colours = colours * (1 - dip) + below * dip
    # The fourth channel accumulates the visible cover of each pixel.
    inks = np.concatenate([np.clip(colours, 0, 255), 255 * (1 - 0.8 * dip)], axis=1)
    return _draw_blades(rng, water, paths, inks)


def _blade_paths(
    rng: np.random.Generator,
    shape: tuple[int, int],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    plant: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return paths along the current from the bulb of each blade's plant: `(blades, points, 2)` as x, y."""
    height, width = shape
    swirl = rng.uniform(0.6, 1.0) * fractal_noise(rng, shape, 140, 2) + 0.6 * fractal_noise(rng, shape, 36, 3)
    current = rng.uniform(0, 2 * math.pi) + swirl
    at_x = x[plant] + rng.normal(0, 3, plant.size)
    at_y = y[plant] + rng.normal(0, 3, plant.size)
    lean = rng.normal(0, 0.25, x.size)[plant] + rng.normal(0, 0.22, plant.size)
    curl = rng.normal(0, 0.03, x.size)[plant] + rng.normal(0, 0.05, plant.size)
    stride = np.clip(rng.normal(3.2, 1.0, plant.size), 1, None)
    points = [(at_x, at_y)]
    for step in range(13):
        row = np.clip(at_y, 0, height - 1).astype(int)
        col = np.clip(at_x, 0, width - 1).astype(int)
        angle = current[row, col] + lean + curl * step
        at_x = at_x + stride * np.cos(angle)
        at_y = at_y + stride * np.sin(angle)
        points.append((at_x, at_y))
    return np.array(points).transpose(2, 0, 1)


def _draw_blades(
    rng: np.random.Generator, water: Picture, paths: npt.NDArray[np.float64], inks: npt.NDArray[np.float64]
) -> tuple[Picture, Field]:
    """Draw the blades in order, each `(points, 2)` path with its colour `(4,)`: RGB and visibility."""
    fixed = np.rint(paths * 2**SUBPIXEL_BITS).astype(np.int32)
    # Below the visible blades are more, so that the water between them is dark and brown.
    mass = np.zeros(water.shape[:2], np.uint8)
    cv2.polylines(mass, list(fixed), isClosed=False, color=255, thickness=2, shift=SUBPIXEL_BITS)
    shade = cv2.GaussianBlur(mass.astype(np.float32) / 255, (0, 0), 3) * 0.6
    water = _blend(water, water * 0.45 + _colour(44, 32, 30), shade)
    canvas = np.dstack([to_bytes(water), np.zeros_like(mass)])
    for path, ink in zip(fixed, inks.tolist(), strict=True):
        cv2.polylines(canvas, [path], False, ink, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    bulbs = rng.uniform(0, 1, len(fixed)) < 0.12
    for path, ink in zip(fixed[bulbs], (inks[bulbs] * 1.15 + 10).tolist(), strict=True):
        cv2.circle(canvas, path[0].tolist(), 2**SUBPIXEL_BITS, ink, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    cover = np.asarray(canvas[..., 3] / 255, np.float32)
    grain = (fractal_noise(rng, cover.shape, 4, 2) * cover * 9)[..., None] * _colour(1.2, 1, 0.8)
    return np.asarray(canvas[..., :3] + grain, np.float32), cover


def _surface(rng: np.random.Generator, picture: Picture, cover: Field, sun: tuple[float, float]) -> Picture:
    """Add wind ripples, the sky's reflection and patches of sun glint to the water."""
    shape = cover.shape
    wind = rng.uniform(0, 2 * math.pi)
    slope = _ripples(rng, shape, wind, sun)
    gusts = np.clip(1 + 0.4 * fractal_noise(rng, shape, 120, 2), 0.2, 2)
    # Canopies damp ripples.
    damped = 1 - 0.7 * cv2.GaussianBlur(cover, (0, 0), 2)
    sky = _ramp(rng, shape)[..., None] * _colour(26, 28, 32)
    ripple = (slope * gusts * damped * rng.uniform(2.5, 5))[..., None]
    glint_patch = np.clip(fractal_noise(rng, shape, 150, 2) - 0.6, 0, 1.5)
    glint = np.clip(slope * damped - 2.0, 0, 1.5) * glint_patch * rng.uniform(40, 110)
    return np.asarray(picture * 0.92 + sky + ripple * _colour(0.9, 1, 1) + glint[..., None], np.float32)


def _ripples(rng: np.random.Generator, shape: tuple[int, int], wind: float, sun: tuple[float, float]) -> Field:
    """Return the slope of wind waves towards the sun, with unit variance: noise shaped in the frequency domain."""
    white = np.fft.rfft2(rng.standard_normal(shape))
    down = np.fft.fftfreq(shape[0])[:, None]
    across = np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(across, down)
    spread = np.cos(np.arctan2(down, across) - wind) ** 2
    peak = 1 / rng.uniform(5, 10)
    band = np.exp(-(np.log2(np.maximum(frequency, 1e-6) / peak) ** 2) / 0.9)
    # Differentiation is multiplication by i times the frequency.
    towards_sun = 1j * (across * sun[0] + down * sun[1])
    slope = np.fft.irfft2(white * band * spread * towards_sun, s=shape)
    return np.asarray(slope / slope.std(), np.float32)


def _land(rng: np.random.Generator, site: Site, elevation: Field, sun: tuple[float, float]) -> Picture:
    """Draw rock with its tidal bands (rockweed, barnacles, bare stone) or a beach of sand and gravel."""
    shape = elevation.shape
    fine = fractal_noise(rng, shape, 5, 3)
    if site.shore == "sand":
        grain = fine * 7 + fractal_noise(rng, shape, 60, 3) * 8
        dry = np.clip(elevation / 0.8, 0, 1)
        beach = _blend(_colour(112, 104, 82), _colour(186, 178, 154), dry) + grain[..., None]
        weed = _step(fractal_noise(rng, shape, 30, 4) - 1.2 - np.abs(elevation - 0.5), 0.3)
        return _blend(beach, _colour(78, 56, 36) + fine[..., None] * 18, weed)
    bumps = fractal_noise(rng, shape, 40, 6, gain=0.55)
    cracks = np.exp(-((fractal_noise(rng, shape, 70, 4) / 0.06) ** 2))
    shade = _hillshade(elevation + 0.5 * bumps - 0.4 * cracks, sun)
    band = elevation + 0.5 * fractal_noise(rng, shape, 50, 4)
    stone = _blend(_colour(74, 66, 54), _colour(176, 168, 150), _step(band - 2.2, 1.0))
    stone = stone + fine[..., None] * 9
    tufts = _step(fractal_noise(rng, shape, 7, 3, gain=0.8), 3.0)
    weed_colour = _blend(_colour(50, 38, 22), _colour(150, 112, 58), tufts)
    # Rockweed grows in the middle of the tidal range.
    weed = _step(fractal_noise(rng, shape, 35, 5, gain=0.75) + 1.1 - 0.8 * np.abs(band - 0.6), 1.2)
    green = _step(fractal_noise(rng, shape, 40, 5, gain=0.7) - 1.9, 0.8)
    rock = _blend(_blend(stone, weed_colour, weed), _colour(88, 106, 54), green * 0.7)
    return np.asarray(rock * shade[..., None], np.float32)


def _hillshade(height: Field, sun: tuple[float, float]) -> Field:
    """Return the brightness of a slope under the sun at 45 degrees, 1 on level ground, with cast shadows."""
    down, across = np.gradient(height, PIXEL_SIZE)
    lit = np.clip((1 - 0.9 * (across * sun[0] + down * sun[1])) / np.sqrt(1 + across**2 + down**2), 0.15, 1.7)
    shadow = np.zeros_like(height)
    for reach in (2, 4, 7, 11):
        # Ground within `reach` pixels sunward that stands above a 45 degree ray hides the sun.
        towards = np.array([[1, 0, -reach * sun[0]], [0, 1, -reach * sun[1]]], np.float64)
        blocker = cv2.warpAffine(height, towards, height.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        shadow = np.maximum(shadow, np.clip((blocker - height - reach * PIXEL_SIZE) / 0.15, 0, 1))
    return np.asarray(lit * (1 - 0.55 * shadow), np.float32)


def _foam(rng: np.random.Generator, picture: Picture, elevation: Field) -> Picture:
    """Add foam where the swell meets the shore."""
    shape = elevation.shape
    down, across = np.gradient(cv2.GaussianBlur(elevation, (0, 0), 4))
    # Distance to the waterline in pixels, negative at sea: the width of the foam does not depend on the slope.
    ashore = elevation / np.maximum(np.hypot(across, down), 0.004)
    swash = ashore + 4 * fractal_noise(rng, shape, 40, 4)
    fringe = np.exp(-(((swash + 1) / 4) ** 2)) + 0.7 * np.exp(-(((swash + 15) / 5) ** 2))
    exposed = _step(fractal_noise(rng, shape, 110, 2) + 0.2, 1.0)
    lace = _step(0.65 - np.abs(fractal_noise(rng, shape, 9, 3, gain=0.7)), 0.6)
    return _blend(picture, _colour(222, 229, 228), np.clip(fringe * exposed * lace, 0, 0.95))


def _photograph(rng: np.random.Generator, picture: Picture) -> Bytes:
    """Add camera effects: white balance, vignette, lens blur, sensor noise and JPEG compression."""
    exposure = rng.uniform(0.93, 1.07) * (1 + rng.normal(0, 0.015, 3))
    light = 1 + 0.05 * _ramp(rng, picture.shape[:2])
    picture = picture * exposure.astype(np.float32) * light[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.45, 0.7))
    # Noise of each channel, and noise common to all three.
    noise = 2 * rng.standard_normal((*light.shape, 4), np.float32)
    picture += noise[..., :3] + noise[..., 3:]
    bgr = cv2.cvtColor(to_bytes(picture), cv2.COLOR_RGB2BGR)
    _, packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(84, 94))])
    return np.asarray(cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def _annotate(rng: np.random.Generator, cover: Field) -> Bytes:
    """Draw the label as an annotator does: gaps between blades filled, single blades ignored, some edges uncertain."""
    crowd = cv2.GaussianBlur(cover, (0, 0), 4)
    canopy = _tidy(crowd > CANOPY_COVER)
    unsure = _tidy(crowd > UNSURE_COVER) & ~canopy & (fractal_noise(rng, cover.shape, 90, 2) > 0.5)
    return np.asarray(np.select([canopy, unsure], [KELP, IGNORE], BACKGROUND), np.uint8)


def _tidy(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Smooth the outline of a mask and remove specks and holes of less than about 1 m²."""
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3.5) > 0.5, np.bool_)


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], feature: float, octaves: int, gain: float = 0.5
) -> Field:
    """Return smooth noise `(H, W)` of zero mean and unit variance whose largest features span `feature` pixels."""
    noise = rng.standard_normal([math.ceil(side / feature) for side in shape], np.float32)
    for octave in range(1, octaves):
        noise = cv2.resize(noise, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        noise += gain**octave * rng.standard_normal(noise.shape, np.float32)
    finest = feature / 2 ** (octaves - 1)
    noise = cv2.resize(noise, None, fx=finest, fy=finest, interpolation=cv2.INTER_CUBIC)
    top, left = (int(rng.integers(0, have - want + 1)) for have, want in zip(noise.shape, shape, strict=True))
    window = noise[top : top + shape[0], left : left + shape[1]]
    return np.asarray((window - window.mean()) / window.std(), np.float32)


def _ramp(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Return a plane `(H, W)` tilted in a random direction, about -0.5 to 0.5 across the image."""
    across, down = _direction(rng.uniform(0, 2 * math.pi))
    rows, cols = np.indices(shape, dtype=np.float32)
    return np.asarray(across * (cols / shape[1] - 0.5) + down * (rows / shape[0] - 0.5), np.float32)


def _step(field: npt.NDArray[np.floating], width: float) -> Field:
    """Return a linear step from 0 to 1 around 0, `width` wide."""
    return np.asarray(np.clip(field / width + 0.5, 0, 1), np.float32)


def _blend(under: Picture, over: Picture, share: Field) -> Picture:
    """Blend one image over another with an opacity `(H, W)`."""
    return _mix(under, over, share[..., None])


def _mix(start: Picture, end: Picture, share: npt.NDArray[np.floating]) -> Picture:
    return np.asarray(start + (end - start) * share, np.float32)


def _colour(red: float, green: float, blue: float) -> Picture:
    return np.array((red, green, blue), np.float32)


def _direction(angle: float) -> tuple[float, float]:
    return math.cos(angle), math.sin(angle)


def to_bytes(picture: npt.NDArray[np.floating]) -> Bytes:
    """Round and clip to uint8."""
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)
