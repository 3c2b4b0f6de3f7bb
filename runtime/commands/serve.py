"""`runtime serve`: a bundle as a service."""

import argparse
import os

from engines.console import Result
from engines.errors import MissingExtraError
from runtime.commands.bundle_option import find_bundle
from runtime.server.settings import add_server_arguments, describe_sources, read_settings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = commands.add_parser(
        "serve",
        help="serve a bundle over HTTP",
        description="Serve a bundle over HTTP: jobs with events, AUTOMATIC1111's /sdapi/v1 and "
        "OpenAI's /v1/images. SIGTERM lets the jobs that there are end.",
        epilog=describe_sources(),
    )
    add_server_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")
    parser.set_defaults(command=run, json=False)


def run(options: argparse.Namespace) -> Result:
    """Serve until a signal ends it."""
    settings = read_settings(vars(options), os.environ)
    try:
        from runtime.server.logs import configure_logs
        from runtime.server.program import run_server
        from runtime.server.service import Service
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve", "`runtime serve`") from error
    from runtime.pipeline import Pipeline

    configure_logs(settings.log_format, quiet=options.quiet)
    pipeline = Pipeline.open(find_bundle(settings.bundle), settings.backend)
    run_server(Service(settings, pipeline))
    return Result("", {})
