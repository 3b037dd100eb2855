"""The API as an application of its own, mounted in that of the pages, with its OpenAPI and a page of it."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute

from service.web.api import acting, administering, jobs, models, ordering, overview, studies
from service.web.api.footing import Footing, OfAPI
from service.web.api.problems import tell_problems
from service.web.api.reference import groups_of
from service.web.attempts import Attempts
from service.web.pages.footing import Footing as PagesFooting
from service.web.problems import API, Problem, ProblemResponse

_DESCRIPTION: Final = (
    "Reads and actions of a LiteGPT node, as its pages have them. Not a medical device. "
    "Every request but for this contract carries a token (`Authorization: Bearer …`), which "
    "`litegpt-node token add NAME --role viewer|operator|admin` prints. "
    "Errors are problem details (RFC 9457)."
)


def add_api(app: FastAPI, pages: PagesFooting) -> None:
    """Gives the pages' application the API; what is reckoned or under way is the same for both."""
    app.state.api = Footing(pages.rendering, pages.deeds, pages.counts, Attempts())
    api = FastAPI(
        title="LiteGPT node",
        version=version("litegpt-node"),
        description=_DESCRIPTION,
        openapi_url=None,
        servers=[{"url": API}],
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    # The node is opened by the application around this one.
    api.state = app.state
    for room in (overview, models, studies, acting, ordering, jobs, administering):
        api.include_router(room.router)
    api.add_api_route("/openapi.json", _contract, include_in_schema=False)
    api.add_api_route("/docs", _page, include_in_schema=False)
    tell_problems(api)
    api.add_exception_handler(405, _wrong_method)
    app.mount(API, api)


def _operation_id(route: APIRoute) -> str:
    """What a client made from the contract calls an operation."""
    return f"{route.tags[0]}_{route.name}".replace(" ", "_") if route.tags else route.name


def openapi_of(api: FastAPI) -> dict[str, Any]:
    """The contract, made once."""
    if api.openapi_schema is None:
        made = get_openapi(
            title=api.title,
            version=api.version,
            description=api.description,
            routes=api.routes,
            servers=api.servers,
        )
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        made["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
        api.openapi_schema = made
    return api.openapi_schema


def _wrong_method(request: Request, _: Exception) -> ProblemResponse:
    """Names all methods of an address (RFC 9110 15.5.6); Starlette names those of the first route alone."""
    asked = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    allowed = {
        method.upper()
        for path, of_path in openapi_of(request.app)["paths"].items()
        if re.fullmatch(re.sub(r"{[^}]+}", "[^/]+", path), asked)
        for method in of_path
    }
    headers = {"Allow": ", ".join(sorted(allowed or {"GET"}))}
    return ProblemResponse(405, "There is nothing like that here.", headers=headers)


def _contract(request: Request) -> JSONResponse:
    return JSONResponse(openapi_of(request.app))


def _page(request: Request, api: OfAPI) -> HTMLResponse:
    contract = openapi_of(request.app)
    return api.rendering.page(
        request, "api.html", None, groups=groups_of(contract), api=API, about=contract["info"]
    )
