"""Grids and contact sheets: every picture whole, in its place, under its label."""

import numpy as np
import pytest

from runtime.arrays import Pixels
from runtime.mosaic import GAP, default_columns, make_grid, make_sheet, sheet_size


def pictures(count: int, width: int = 48, height: int = 32) -> list[Pixels]:
    random = np.random.default_rng(1)
    return [random.integers(1, 200, (height, width, 3)).astype(np.uint8) for _ in range(count)]


def test_a_grid_has_every_picture_in_its_place() -> None:
    made = pictures(5)
    grid = make_grid(made, 3)
    assert grid.shape == (2 * 32 + GAP, 3 * 48 + 2 * GAP, 3)
    for index, picture in enumerate(made):
        top, left = index // 3 * (32 + GAP), index % 3 * (48 + GAP)
        np.testing.assert_array_equal(grid[top : top + 32, left : left + 48], picture)
    assert (grid[32 : 32 + GAP] == 255).all()
    assert (grid[32 + GAP :, 2 * (48 + GAP) :] == 255).all()


def test_pictures_of_several_sizes_share_a_grid() -> None:
    (wide,), (high,) = pictures(1, 64, 16), pictures(1, 16, 64)
    grid = make_grid([wide, high], 2)
    assert grid.shape == (64, 128 + GAP, 3)
    np.testing.assert_array_equal(grid[:64, 64 + GAP : 80 + GAP], high)
    assert (grid[16:, :64] == 255).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_a_grid_is_about_square(count: int, columns: int) -> None:
    assert default_columns(count) == columns


@pytest.mark.parametrize("rows", [None, ["steps 5", "steps 10"]])
def test_a_sheet_has_its_labels_around_the_grid(rows: list[str] | None) -> None:
    made = pictures(6 if rows else 3)
    sheet = make_sheet(made, ["cfg 1", "a long label that takes some lines", "x"], rows)
    grid = make_grid(made, 3)
    top, left = sheet.shape[0] - grid.shape[0], sheet.shape[1] - grid.shape[1]
    np.testing.assert_array_equal(sheet[top:, left:], grid)
    most = sheet_size(3, len(rows) if rows else 1, 48, 32, labelled=True)
    assert left == 0 if rows is None else 0 < left <= 48 + 8
    assert sheet.shape[1] <= most[0] + 8
    above = sheet[:top, left:]
    for column in range(3):
        label = above[:, column * (48 + GAP) : column * (48 + GAP) + 48]
        assert (label < 128).any(), "there is ink above every column"
    for row in range(2 if rows else 0):
        begin = top + row * (32 + GAP)
        assert (sheet[begin : begin + 32, :left] < 128).any()


def test_labels_stay_beside_their_column() -> None:
    """A word that is wider than its column is broken, not laid over the next."""
    sheet = make_sheet(pictures(3), ["a", "W" * 30, "b"], None)
    plain = make_sheet(pictures(3), ["a", "i", "b"], None)
    extra = sheet.shape[0] - plain.shape[0]
    gap = sheet[: extra + 8, 48 : 48 + GAP]
    assert (gap == 255).all()
    assert extra > 0
