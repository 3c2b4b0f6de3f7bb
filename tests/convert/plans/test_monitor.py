"""TensorRT's nested phases become one number that only grows."""

from convert.plans.monitor import PlanFile, Progress


def _recorder() -> tuple[Progress, list[tuple[float, str]]]:
    told: list[tuple[float, str]] = []
    return Progress(lambda done, phase: told.append((round(done, 3), phase))), told


def test_an_inner_phase_takes_up_one_step_of_the_outer_one() -> None:
    progress, told = _recorder()
    progress.start("outer", 4)
    progress.step("outer")
    progress.start("inner", 2)
    progress.step("inner")
    progress.step("inner")
    progress.finish("inner")
    progress.step("outer")
    progress.finish("outer")
    assert told == [
        *((0, "outer"), (0.25, "outer"), (0.25, "inner")),
        *((0.375, "inner"), (0.5, "inner"), (0.5, "outer")),
    ]


def test_it_never_goes_back_nor_beyond_the_end() -> None:
    progress, told = _recorder()
    progress.start("outer", 2)
    for _ in range(5):
        progress.step("outer")
    progress.finish("outer")
    progress.start("another", 2)
    progress.step("another")
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert max(done) == 1


def test_an_outer_phase_ends_those_inside_it() -> None:
    progress, told = _recorder()
    progress.start("outer", 2)
    progress.start("inner", 2)
    progress.finish("outer")
    progress.start("next", 1)
    progress.step("next")
    assert told[-1] == (1, "next")


def test_small_steps_are_not_all_told() -> None:
    progress, told = _recorder()
    progress.start("many", 100_000)
    for _ in range(100_000):
        progress.step("many")
    assert len(told) < 600


class _Full:
    def write(self, data: bytes) -> int:
        raise OSError(28, "No space left on device")


def test_an_error_in_writing_waits() -> None:
    file = PlanFile(_Full())  # type: ignore[arg-type]
    assert file.write(b"plan") == 0
    assert file.error is not None
    assert file.error.errno == 28
