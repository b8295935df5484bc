"""A z-buffer rasteriser compiled by Numba: no display, driver or GPU needed, a head at 384 px in milliseconds."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def vertex_normals(vertices: Array, faces: NDArray[np.int32]) -> Array:
    """Unit normals (V, 3), area-weighted over the triangles around each vertex."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axes = [np.bincount(faces.ravel(), np.repeat(axis, 3), minlength=len(vertices)) for axis in across.T]
    normals = np.stack(axes, axis=1)
    return (normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)).astype(np.float32)


@numba.njit(cache=True, fastmath=True)
def rasterise(
    screen: Array, faces: NDArray[np.int32], attributes: Array, height: int, width: int
) -> tuple[NDArray[np.int32], Array]:
    """Draw triangles with perspective-correct interpolation of vertex attributes.

    Args:
        screen: (V, 3) pixel x, pixel y, distance from the camera (> 0).
        faces: (F, 3) vertex indices; both sides are drawn.
        attributes: (V, A) values to interpolate.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        The nearest triangle per pixel (H, W), -1 where there is none, and the attributes there (H, W, A).
    """
    nearest = np.zeros((height, width), np.float32)  # 1 / distance: larger is nearer, 0 is infinitely far
    triangle = np.full((height, width), -1, np.int32)
    values = np.zeros((height, width, attributes.shape[1]), np.float32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        xi, yi, xj, yj, xk, yk = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1], screen[k, 0], screen[k, 1]
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if abs(area) < 1e-9:
            continue
        zi, zj, zk = 1 / screen[i, 2], 1 / screen[j, 2], 1 / screen[k, 2]
        for y in range(max(0, int(np.ceil(min(yi, yj, yk)))), min(height - 1, int(np.floor(max(yi, yj, yk)))) + 1):
            for x in range(max(0, int(np.ceil(min(xi, xj, xk)))), min(width - 1, int(np.floor(max(xi, xj, xk)))) + 1):
                wj = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) / area
                wk = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) / area
                wi = 1 - wj - wk
                if wi < -1e-6 or wj < -1e-6 or wk < -1e-6:
                    continue
                z = wi * zi + wj * zj + wk * zk
                if z <= nearest[y, x]:
                    continue
                nearest[y, x] = z
                triangle[y, x] = f
                for a in range(attributes.shape[1]):
                    values[y, x, a] = (
                        wi * zi * attributes[i, a] + wj * zj * attributes[j, a] + wk * zk * attributes[k, a]
                    ) / z
    return triangle, values
