"""The two applications: the pages, and what other machines may ask.

Routes that touch the database are plain ``def``: they run in threads, and the loop goes on.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from service.settings import Settings
from service.web import health, metrics
from service.web.admission import is_open
from service.web.api.application import add_api
from service.web.bounds import Bounds
from service.web.node import lifespan_of
from service.web.pages.footing import add_pages

_OF_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "[::1]")


def create_app(settings: Settings) -> FastAPI:
    """The pages of the node, with the API, metrics and health beside them."""
    app = _application(settings, tells_why=True)
    add_api(app, add_pages(app, settings))
    if is_open(settings):
        # A page of another site must not read ours by a name of its own that leads to us (DNS rebinding).
        hosts = [*_OF_THIS_MACHINE, settings.web_host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return app


def create_metrics_app(settings: Settings) -> FastAPI:
    """Metrics and health alone, without anything of a patient, for whoever reaches the port."""
    return _application(settings, tells_why=False)


def _application(settings: Settings, *, tells_why: bool) -> FastAPI:
    # Without FastAPI's own pages, which load scripts from elsewhere.
    app = FastAPI(
        title="LiteGPT node",
        lifespan=lifespan_of(settings, tells_why=tells_why),
        openapi_url=None,
    )
    app.add_middleware(Bounds)
    app.include_router(health.router)
    app.include_router(metrics.router)
    return app
