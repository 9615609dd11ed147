"""Turns the options of ``okp serve`` into a server, and says what it serves and how to call it."""

from __future__ import annotations

import json

import click

from openkeypoints import __version__
from openkeypoints.cli.options import ServeOptions
from openkeypoints.server.config import NamedModel, ServerConfig, named_in
from openkeypoints.server.keys import KeyStore
from openkeypoints.server.logs import start_logging
from openkeypoints.server.running import bind, run
from openkeypoints.server.served import Served
from openkeypoints.server.workers import Workers
from openkeypoints.settings import Settings


def run_server(options: ServeOptions) -> None:
    """Serve until a signal comes.

    Raises:
        InputError: options that do not fit, an address that cannot be had, a port in use.
        NotFoundError: a model or file that is not there.
        OpenKeypointsError: a named model cannot be loaded.
    """
    config = config_from(options)
    settings = Settings.from_env()
    served = Served(config, settings)
    KeyStore.of(api_key=config.api_key, path=config.api_keys)  # says at once what is wrong with it
    with bind(config) as listening:
        port = listening.getsockname()[1]
        page = facts(config, served, port) if options.as_json else welcome(config, served, port)
        click.echo(page)
        start_logging()
        if config.workers > 1:
            Workers(config, listening).run()
        else:
            run(config, listening, settings=settings)


def config_from(options: ServeOptions) -> ServerConfig:
    """Return the checked record of the options.

    Raises:
        InputError: they do not fit.
    """
    return ServerConfig(
        host=options.host,
        port=options.port,
        models=(
            *(NamedModel.parse(text) for text in options.models),
            *(() if options.models_file is None else named_in(options.models_file)),
        ),
        load=not options.no_load,
        api_key=options.api_key,
        api_keys=options.api_keys,
        allow_anonymous=options.allow_anonymous,
        allow_urls=options.allow_urls,
        allow_url_hosts=options.allow_url_hosts,
        forward_roboflow_key=options.forward_roboflow_key,
        cors_origins=options.cors_origins,
        workspace=options.workspace,
        workers=options.workers,
        engine=options.engine,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        trusted_proxies=options.trusted_proxies,
        root_path=options.root_path.rstrip("/"),
    )


def welcome(config: ServerConfig, served: Served, port: int) -> str:
    """Return what the server says of itself when it starts.

    Args:
        config: the options.
        served: its models.
        port: at which it listens.
    """
    url = address(config, port)
    model = served.names()[-1]
    key, header = ("KEY", " -H 'Authorization: Bearer KEY'") if config.has_keys else ("", "")
    more = served.loadable() and ", and any other that a client names"
    return f"""\
OpenKeypoints {__version__} serves at {url}

  models   {", ".join(served.ids())}{more or ""}
  callers  {_callers(config)}
  pages    {url}/ (try it), {url}/docs, {url}/healthz, {url}/metrics

  Python   from inference_sdk import InferenceHTTPClient
           client = InferenceHTTPClient(api_url="{url}", api_key="{key}")
           client.infer("photo.jpg", model_id="{model}")
  curl     base64 -w0 photo.jpg | curl{header} --data-binary @- {url}/{model}
           curl{header} -F image=@photo.jpg {url}/v1/predict/{served.ids()[-1]}

  Ctrl+C ends it."""


def facts(config: ServerConfig, served: Served, port: int) -> str:
    """Return what :func:`welcome` says as a line of JSON."""
    return json.dumps(
        {
            "version": __version__,
            "url": address(config, port),
            "models": served.ids(),
            "loads_others": bool(served.loadable()),
            "callers": _callers(config),
        }
    )


def address(config: ServerConfig, port: int) -> str:
    """Return the address at which somebody on this machine reaches the server."""
    host = config.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    scheme = "http" if config.tls_cert is None else "https"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{config.root_path}"


def _callers(config: ServerConfig) -> str:
    if config.has_keys:
        others = "; without one: infer" if config.allow_anonymous else ""
        return f"whoever has a key{others}"
    if config.is_local:
        return "everybody on this machine, without a key"
    return "everybody who reaches this address, without a key: infer"
