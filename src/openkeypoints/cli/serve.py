"""``okp serve``: models over HTTP, in the formats that clients already speak."""

from __future__ import annotations

from pathlib import Path

import click

from openkeypoints.cli.machine import extras
from openkeypoints.cli.options import ServeOptions, json_option, takes
from openkeypoints.errors import InputError, MissingExtraError

FILE = click.Path(path_type=Path)
_SPARED = ("uvloop",)
"""What is quicker with it and works without."""


@click.command()
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True)
@click.option("--port", metavar="N", type=int, default=9001, show_default=True, help="0: any.")
@click.option(
    "--model",
    "models",
    metavar="ID[=PATH]",
    multiple=True,
    help="Serve this model, and only what is named; your own file under an id with ID=PATH.",
)
@click.option(
    "--models",
    "models_file",
    metavar="FILE",
    type=FILE,
    help="YAML or JSON with more of them: id: path, or id: {model, card, detector, ...}.",
)
@click.option("--no-load", is_flag=True, help="Load nothing that clients name.")
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="OKP_API_KEY",
    help="One key for everything; better in OKP_API_KEY, as other users see command lines.",
)
@click.option("--api-keys", metavar="FILE", type=FILE, help="Keys made by `okp keys add`.")
@click.option("--allow-anonymous", is_flag=True, help="Callers without a key may infer.")
@click.option("--allow-urls", is_flag=True, help="Fetch pictures from public https addresses.")
@click.option(
    "--allow-url-host",
    "allow_url_hosts",
    metavar="HOST",
    multiple=True,
    help="Fetch pictures from this host, which may be private and http.",
)
@click.option(
    "--forward-roboflow-key",
    is_flag=True,
    help="Ask Roboflow with the client's key in place of the server's own.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    help="Let the pages of this origin call the server.  [default: none]",
)
@click.option(
    "--workspace",
    metavar="NAME",
    default="openkeypoints",
    show_default=True,
    help="The workspace that the roboflow package sees.",
)
@click.option("--workers", metavar="N", type=int, default=1, show_default=True, help="Processes.")
@click.option("--engine", type=click.Choice(("local", "ray")), default="local", show_default=True)
@click.option("--tls-cert", metavar="FILE", type=FILE, help="PEM certificate for https.")
@click.option("--tls-key", metavar="FILE", type=FILE, help="PEM key of the certificate.")
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    metavar="CIDR",
    multiple=True,
    help="Believe X-Forwarded-For and -Proto from this network.",
)
@click.option(
    "--root-path", metavar="P", default="", help="Path at which a proxy shows the server."
)
@json_option
@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve models over HTTP: to Roboflow's and Ultralytics' clients, curl, and a page at `/`.

    Without --model and --models the server has `person` and loads the models that clients name.
    Only this machine can reach it, and needs no key. At another --host it starts only with
    --api-keys, --api-key or --allow-anonymous. What it serves goes to stdout, its log as JSON lines
    to stderr. It finishes running requests at SIGTERM; SIGHUP makes it read its keys again.

    \b
    Example:
      okp serve --model person --port 9001
    """  # noqa: D301
    # By the names of packages: python-multipart brings a module that is called like multipart.
    server = extras()["server"]
    if missing := [name for name in server if server[name] is None and name not in _SPARED]:
        raise MissingExtraError(f"`okp serve` (without {', '.join(missing)})", "server")
    if options.engine == "ray":
        raise InputError("--engine ray comes in a later version: leave it out, or add --workers.")
    from openkeypoints.cli.serving import run_server  # noqa: PLC0415

    run_server(options)
