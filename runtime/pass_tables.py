"""The sampler's tables of a picture's passes."""

from runtime.hires import schedule_steps
from runtime.init_settings import first_step
from runtime.noise_schedule import NoiseSchedule
from runtime.request import Settings
from runtime.samplers.lookup import make_table
from runtime.samplers.table import Table


def first_table(settings: Settings, noise_schedule: NoiseSchedule) -> Table:
    """The table of a picture's first pass.

    Raises:
        SettingError: the sampler cannot take that many steps.
    """
    first = 0 if settings.init is None else first_step(settings.steps, settings.init.strength)
    return _table(settings, noise_schedule, settings.steps, first)


def second_table(settings: Settings, noise_schedule: NoiseSchedule) -> Table | None:
    """The table of its second pass, where it has one.

    Raises:
        SettingError: the sampler cannot take that many steps.
    """
    if settings.hires is None:
        return None
    steps = schedule_steps(settings.hires)
    return _table(settings, noise_schedule, steps, steps - settings.hires.steps)


def _table(settings: Settings, noise_schedule: NoiseSchedule, steps: int, first: int) -> Table:
    return make_table(
        settings.sampler,
        settings.schedule,
        steps,
        noise_schedule,
        first,
        stochasticity=settings.stochasticity,
    )
