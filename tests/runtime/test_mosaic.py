"""Grids and contact sheets: every picture whole, in its place, under its label."""

import numpy as np
import pytest

from runtime.arrays import Pixels
from runtime.mosaic import (
    GAP,
    default_columns,
    make_grid,
    make_sheet,
    sheet_size,
    warn_of_missing_letters,
)


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
    assert left == 0 if rows is None else 0 < left <= 48 + 8
    above = sheet[:top, left:]
    for column in range(3):
        label = above[:, column * (48 + GAP) : column * (48 + GAP) + 48]
        assert (label < 128).any(), "there is ink above every column"
    for row in range(2 if rows else 0):
        begin = top + row * (32 + GAP)
        assert (sheet[begin : begin + 32, :left] < 128).any()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 256), (256, 64), (512, 512)])
@pytest.mark.parametrize(("part", "times"), [("x", 9000), ("many words ", 900), ("|j ", 500)])
def test_a_sheet_is_no_larger_than_it_was_said_to_be(
    part: str, times: int, width: int, height: int
) -> None:
    label = part * times
    made = pictures(4, width, height)
    most = sheet_size(2, 2, width, height, labelled=True)
    sheet = make_sheet(made, [label, "b"], [label, "b"])
    assert sheet.shape[1] <= most[0]
    assert sheet.shape[0] <= most[1]


def test_labels_beside_stay_in_their_row() -> None:
    made = pictures(2, 64, 64)
    sheet = make_sheet(made, ["a"], ["many words " * 90, ""])
    grid = make_grid(made, 1)
    top, left = sheet.shape[0] - grid.shape[0], sheet.shape[1] - grid.shape[1]
    assert (sheet[top : top + 64, :left] < 128).any()
    assert (sheet[top + 64 :, :left] == 255).all()
    assert (sheet[:top, :left] == 255).all()


def test_labels_of_letters_without_a_shape_are_named(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_missing_letters(["cfg 1", "…", "", "".join(map(chr, range(32, 127)))])
    assert caplog.messages == []
    warn_of_missing_letters(["a cat", "猫", "un 犬", "猫 and " * 90])
    (message,) = caplog.messages
    assert message.startswith("labels of the sheet get empty boxes for letters: '猫', 'un 犬', '")
    assert len(message) < 120


def test_labels_stay_beside_their_column() -> None:
    """A word that is wider than its column is broken, not laid over the next."""
    sheet = make_sheet(pictures(3), ["a", "W" * 30, "b"], None)
    plain = make_sheet(pictures(3), ["a", "i", "b"], None)
    extra = sheet.shape[0] - plain.shape[0]
    gap = sheet[: extra + 8, 48 : 48 + GAP]
    assert (gap == 255).all()
    assert extra > 0
