"""The command line: run the server or a worker, check the settings, show what is installed."""

from __future__ import annotations

import errno
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

import docling_serve.settings as shared
from docling_serve.cli.client import tasks as task_commands
from docling_serve.cli.client.convert import convert as convert_documents
from docling_serve.errors import DoclingServeError
from docling_serve.observability.versions import component_versions
from docling_serve.orchestrator_factory import (
    EngineUnavailable,
    require_engine,
    require_one_process,
)
from docling_serve.settings import (
    AsyncEngine,
    DoclingServeSettings,
    UvicornSettings,
    describe_settings_error,
)
from docling_serve.storage import journal_in, require_free

app = typer.Typer(no_args_is_help=True, add_completion=True, help="Serve docling over REST.")
config_commands = typer.Typer(no_args_is_help=True, help="Inspect the settings.")
app.add_typer(config_commands, name="config")
_console = Console(stderr=False, highlight=False, soft_wrap=True)

_SETTINGS_ERROR = 1
#: By name: uvicorn imports it in each of its processes.
_CONNECTION = "docling_serve.internals.uvicorn_connections:GuardedConnection"
#: Clients send nothing on a websocket but short texts to ask for the state.
_WEBSOCKET_TEXT_BYTES = 64 * 1024
#: Added to the time that tasks get to finish, so that their answers can still be sent.
_ANSWER_S = 5


def _print_version(asked: bool) -> None:
    if not asked:
        return
    for name, number in component_versions().items():
        _console.print(f"{name}: {number}")
    _console.print(f"python: {platform.python_implementation()} {platform.python_version()}")
    _console.print(f"platform: {platform.platform()}")
    raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version/--no-version", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True)] = 0,
) -> None:
    """Serve docling over REST. -v for INFO, -vv for DEBUG, unless log_level is set."""
    del version  # its callback has handled it
    if verbose and "DOCLING_SERVE_LOG_LEVEL" not in os.environ:
        os.environ["DOCLING_SERVE_LOG_LEVEL"] = "DEBUG" if verbose > 1 else "INFO"


def _from_uvicorn(name: str) -> Any:
    """A default that is read from the environment when the command runs."""
    return lambda: getattr(_settings(), name)


def _settings() -> UvicornSettings:
    try:
        return shared.uvicorn_settings
    except ValidationError as exc:
        _refuse(exc)


Host = Annotated[str, typer.Option(help="Address to listen on.", show_default=False)]
Port = Annotated[
    int, typer.Option(default_factory=_from_uvicorn("port"), help="Port to listen on.")
]
RootPath = Annotated[
    str,
    typer.Option(
        default_factory=_from_uvicorn("root_path"), help="Path prefix a proxy strips off."
    ),
]
ProxyHeaders = Annotated[
    bool,
    typer.Option(
        default_factory=_from_uvicorn("proxy_headers"), help="Trust X-Forwarded-* headers."
    ),
]
KeepAlive = Annotated[
    int,
    typer.Option(
        default_factory=_from_uvicorn("timeout_keep_alive"),
        help="Seconds an idle connection stays open.",
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option(default_factory=_from_uvicorn("ssl_certfile"), help="TLS certificate."),
]
KeyFile = Annotated[
    Path | None, typer.Option(default_factory=_from_uvicorn("ssl_keyfile"), help="TLS key.")
]
KeyPassword = Annotated[
    str | None,
    typer.Option(
        default_factory=_from_uvicorn("ssl_keyfile_password"), help="Password of the TLS key."
    ),
]
ArtifactsPath = Annotated[
    Path | None, typer.Option(help="Folder of downloaded model weights.", show_default=False)
]
EnableUi = Annotated[bool | None, typer.Option("--enable-ui/--no-enable-ui", help="Serve /ui.")]


@app.command()
def run(
    host: Annotated[
        str, typer.Option(default_factory=_from_uvicorn("host"), help="Address to listen on.")
    ],
    port: Port,
    reload: Annotated[
        bool, typer.Option(default_factory=_from_uvicorn("reload"), help="Restart on code changes.")
    ],
    workers: Annotated[
        int | None,
        typer.Option(
            default_factory=_from_uvicorn("workers"),
            help="Server processes, each with its own tasks.",
        ),
    ],
    root_path: RootPath,
    proxy_headers: ProxyHeaders,
    timeout_keep_alive: KeepAlive,
    ssl_certfile: CertFile,
    ssl_keyfile: KeyFile,
    ssl_keyfile_password: KeyPassword,
    artifacts_path: ArtifactsPath = None,
    enable_ui: EnableUi = None,
) -> None:
    """Run the server in production mode."""
    _hand_down(artifacts_path, enable_ui)
    _serve(
        "production",
        host=host,
        port=port,
        reload=reload,
        workers=workers,
        root_path=root_path,
        proxy_headers=proxy_headers,
        timeout_keep_alive=timeout_keep_alive,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        ssl_keyfile_password=ssl_keyfile_password,
    )


@app.command()
def dev(
    port: Port,
    root_path: RootPath,
    proxy_headers: ProxyHeaders,
    timeout_keep_alive: KeepAlive,
    ssl_certfile: CertFile,
    ssl_keyfile: KeyFile,
    ssl_keyfile_password: KeyPassword,
    host: Host = "127.0.0.1",
    reload: Annotated[bool, typer.Option(help="Restart on code changes.")] = True,
    artifacts_path: ArtifactsPath = None,
    enable_ui: EnableUi = True,
) -> None:
    """Run the server for development: on this machine only, restarting on code changes."""
    _hand_down(artifacts_path, enable_ui)
    _serve(
        "development",
        host=host,
        port=port,
        reload=reload,
        workers=_settings().workers,
        root_path=root_path,
        proxy_headers=proxy_headers,
        timeout_keep_alive=timeout_keep_alive,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        ssl_keyfile_password=ssl_keyfile_password,
    )
    _console.print("For production use: docling-serve run")


@app.command(name="rq-worker")
def rq_worker(
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tasks to run at the same time, on all GPUs of this host; light ones run in"
            " addition. Default: eng_rq_workers; if that is not set, one task of any kind.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run tasks from Redis for servers with eng_kind=rq. Configured by the settings."""
    from docling_serve.rq_worker import run_rq_worker  # noqa: PLC0415 - not needed for --help

    try:
        code = run_rq_worker(workers=workers)
    except ValidationError as exc:
        _refuse(exc)
    except ConnectionError as exc:
        _end(str(exc))
    raise typer.Exit(code)


@config_commands.command(name="check")
def check(
    show_all: Annotated[bool, typer.Option("--all", help="Show defaults too.")] = False,
) -> None:
    """Print the settings in force with their origin, warn about unknown ones and those without
    effect, and exit with 1 if a server would not start with them."""
    from docling_serve.cli.config_check import check_config  # noqa: PLC0415 - not needed for --help
    from docling_serve.process.imports import leave_out_torch  # noqa: PLC0415

    leave_out_torch()  # the rules need docling's data models only
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    raise typer.Exit(check_config(_console, errors, show_all=show_all))


@app.command()
def doctor(
    documents: Annotated[
        list[Path],
        typer.Argument(
            help="Documents for --convert; without any, a generated page.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = [],  # noqa: B006
    convert: Annotated[
        bool,
        typer.Option(
            "--convert", help="Convert with the mode on and off, and check that memory is freed."
        ),
    ] = False,
    tasks: Annotated[int, typer.Option(min=1, help="Conversions in each mode.")] = 5,
    plot: Annotated[
        Path | None, typer.Option(help="SVG file for a plot of memory.", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Examine the driver, cards, libraries, workers and settings of this machine, and report
    problems with advice. Exits with 1 if there is a problem."""
    from docling_serve.doctor.command import (  # noqa: PLC0415 - not needed for --help
        TrialRequest,
        run_doctor,
    )

    if not convert and (documents or plot):
        raise typer.BadParameter("documents and --plot need --convert")
    trial = TrialRequest(documents, tasks, plot) if convert else None
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    raise typer.Exit(run_doctor(_console, errors, as_json=as_json, trial=trial))


app.command(name="convert")(convert_documents)
app.command()(task_commands.tasks)
app.command()(task_commands.watch)
app.command()(task_commands.cancel)
app.command(name="workers")(task_commands.workers)


def _hand_down(artifacts_path: Path | None, enable_ui: bool | None) -> None:
    """Flags win over the environment, also in processes that uvicorn starts."""
    if artifacts_path is not None:
        os.environ["DOCLING_SERVE_ARTIFACTS_PATH"] = str(artifacts_path)
    if enable_ui is not None:
        os.environ["DOCLING_SERVE_ENABLE_UI"] = str(enable_ui).lower()


def _serve(kind: str, **options: Any) -> None:
    import uvicorn  # noqa: PLC0415 - not needed for --version and --help

    try:
        settings = shared.docling_serve_settings
        require_engine(settings)
        _require_scratch(settings, options.get("workers"))
    except ValidationError as exc:
        _refuse(exc)
    except (EngineUnavailable, ConnectionError, DoclingServeError) as exc:
        _end(str(exc))
    _require_port(options["host"], options["port"])
    secure = options["ssl_certfile"] and options["ssl_keyfile"]
    url = f"{'https' if secure else 'http'}://{options['host']}:{options['port']}"
    _console.print(f"Starting {kind} server 🚀")
    _console.print(f"API: {url}/v1")
    if settings.enable_api_docs:
        _console.print(f"Documentation: {url}/docs")
    if settings.enable_ui:
        _console.print(f"Web page: {url}/ui")
    uvicorn.run(
        "docling_serve.app:create_app",
        factory=True,
        log_config=None,
        http=_CONNECTION,
        ws_max_size=_WEBSOCKET_TEXT_BYTES,
        timeout_graceful_shutdown=int(settings.shutdown_grace) + _ANSWER_S,
        **options,
    )


def _require_port(host: str, port: int) -> None:
    """Exit with one line if the port is taken, before anything is loaded for it."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            _end(f"port {port} of {host} is in use: choose another with --port")
        _end(f"cannot listen on {host}, port {port}: {exc.strerror or exc}")


def _require_scratch(settings: DoclingServeSettings, workers: int | None) -> None:
    """Check that the folder of persistent tasks is usable, and used by one process only."""
    if settings.scratch_path is None or settings.eng_kind is not AsyncEngine.LOCAL:
        return
    from docling_serve.engines.local.journal import require_usable  # noqa: PLC0415 - not for --help

    require_one_process(settings, workers)
    require_free(settings.scratch_path)
    require_usable(journal_in(settings.scratch_path))


def _refuse(exc: ValidationError) -> NoReturn:
    """Exit with one line per invalid setting."""
    _end(describe_settings_error(exc))


def _end(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise typer.Exit(_SETTINGS_ERROR)
