"""The addresses of the service, and what stands around each request: headers, counting, an end without traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from cnn_transfer import __version__
from cnn_transfer.images.decoding import quiet_pillow
from cnn_transfer.serving.answers import Explanation, Predictions, Refusal, model_json
from cnn_transfer.serving.card_page import card_page
from cnn_transfer.serving.labelling import Labeller, Rejected
from cnn_transfer.serving.metrics import Metrics
from cnn_transfer.serving.releases import ModelSlot, load_release
from cnn_transfer.serving.settings import Settings
from cnn_transfer.serving.uploads import SERVICE_CODES, RefusedError, Upload, UploadMemory, read_uploads

LOGGER = logging.getLogger(__name__)
HERE = Path(str(files("cnn_transfer.serving")))
RETRY_SECONDS = 1
CLIENT_GONE = 499  # as nginx counts it; nobody reads it
TOO_LARGE, NO_IMAGE = {"too_large", "file_too_large"}, {"not_an_image", "other_file"}
POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
API_PAGE_POLICY = POLICY + "; style-src 'self' 'unsafe-inline'"  # swagger-ui sets styles
POLICY_HEADER = (b"content-security-policy", POLICY.encode())
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Service:
    """What the requests of one service share.

    Attributes:
        settings: What was set.
        metrics: What is counted.
        slot: Holds the model.
        labeller: Labels images.
        memory: Of uploads.
        stopping: Whether the service is about to stop, so that /ready says no.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.slot = ModelSlot(
            settings.release, lambda release: load_release(release, settings), self.metrics, settings.watch_seconds
        )
        self.labeller = Labeller(settings, self.metrics)
        self.memory = UploadMemory(settings.most_waiting_mb * 10**6)
        self.stopping = False

    def load(self) -> None:
        """Load the newest release, where it is not loaded yet.

        Raises:
            NoReleaseError: When there is no release that can be served.
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self.settings.threads, "blas"), quiet_pillow():
            self.slot.refresh()
        _ = self.slot.current

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs.

        Raises:
            NoReleaseError: When there is no release that can be served.
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self.settings.threads, "blas"), quiet_pillow():
            await asyncio.to_thread(self.load)
            watch = asyncio.create_task(self.slot.watch())
            async with self.labeller.running():
                try:
                    yield
                finally:
                    watch.cancel()


def create_app(settings: Settings) -> FastAPI:
    """The application of ASGI; its `state.service` is a `Service`, which starts and ends with its lifespan."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="CNN Transfer",
        version=__version__,
        summary="Labels images with the newest release, with honest confidence.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_exception_handler(RefusedError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_middleware(_Around, service=service)
    _add_labelling(app, service)
    _add_model(app, service)
    _add_operation(app, service)
    _add_pages(app)
    return app


def _refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Documentation of refusals, by status."""
    statuses: dict[int | str, list[str]] = {}
    for code in codes:
        status, meaning = SERVICE_CODES[code]
        statuses.setdefault(status, []).append(f"`{code}`: {meaning}")
    return {status: {"model": Refusal, "description": "; ".join(meanings)} for status, meanings in statuses.items()}


UPLOAD_REFUSALS = _refusals(
    "wrong_content_type", "malformed", "no_file", "no_usable_image", "too_many_files", "request_too_large",
    "file_too_large", "too_slow", "overloaded", "internal",
)  # fmt: skip


def _form(most_files: int) -> dict[str, Any]:
    """The body of a request in the words of OpenAPI."""
    items = {"type": "array", "maxItems": most_files, "items": {"type": "string", "format": "binary"}}
    schema = {"type": "object", "required": ["files"], "properties": {"files": items}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _add_labelling(app: FastAPI, service: Service) -> None:
    async def predict(request: Request) -> Response:
        """Label one or more images. 200 when at least one can be used; each other one says why it cannot."""
        async with _received(request, service) as uploads:
            model = service.slot.current
            images = await service.labeller.label(model, uploads)
        if all("error" in image for image in images):
            return _no_image(images, service)
        return _json({"model": model_json(model), "images": images})

    async def explain(request: Request) -> Response:
        """Show which places of one image speak for the class that the model sees in it, and which against."""
        async with _received(request, service) as uploads:
            if len(uploads) > 1:
                raise RefusedError("too_many_files", "One image is explained at a time.")
            model = service.slot.current
            image = await service.labeller.decode(uploads[0], model.image_format)
            if isinstance(image, Rejected):
                return _no_image([{"name": uploads[0].name, **image.json()}], service)
            return _json(await service.labeller.explain(model, image))

    for answer, most_files, form in (
        (predict, service.settings.most_files, Predictions),
        (explain, 1, Explanation),
    ):
        app.router.add_api_route(
            f"/{answer.__name__}",
            answer,
            methods=["POST"],
            response_model=form,
            responses=UPLOAD_REFUSALS,
            openapi_extra=_form(most_files),
            tags=["images"],
            route_class_override=_PlainRoute,
        )


def _add_model(app: FastAPI, service: Service) -> None:
    @app.get("/training-images/{number}", responses=_refusals("not_found"), tags=["model"])
    async def training_image(number: int, version: str | None = None) -> Response:
        """A small picture of a training image (WebP); of the model that is served, or the one before it."""
        try:
            picture = service.slot.pictures(version)[number] if number >= 0 else None
        except (KeyError, IndexError):
            picture = None
        if picture is None:
            raise RefusedError("not_found", f"There is no training image {number} of this version of the model.")
        keep = "private, max-age=86400, immutable" if version else "no-store"
        return Response(picture, media_type="image/webp", headers={"cache-control": keep})

    @app.get("/model", tags=["model"])
    async def model() -> Response:
        """What the model is and promises, its card, its exports, the release before, and the limits of the service."""
        served, settings = service.slot.current, service.settings
        return _json(
            {
                **model_json(served),
                "facts": served.predictor.facts.model_dump(mode="json"),
                "card": served.predictor.card,
                "exports": served.exports["exports"],
                "comparison": served.exports["comparison"],
                "limits": {name: getattr(settings, name) for name in ("most_files", "most_file_mb", "most_request_mb")},
            }
        )

    @app.get("/model-card", tags=["model"])
    async def model_card(request: Request) -> Response:
        """The card of the model: Markdown, or a page where a browser asks for one."""
        card, vary = service.slot.current.predictor.card, {"vary": "accept"}
        if "text/html" in request.headers.get("accept", ""):
            return Response(card_page(card), media_type="text/html", headers=vary)
        return Response(card, media_type="text/markdown", headers=vary)


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/live", tags=["operation"])
    async def live() -> Response:
        """Whether the process answers at all."""
        return _json({"live": True})

    @app.get("/ready", responses=_refusals("stopping"), tags=["operation"])
    async def ready() -> Response:
        """Whether requests should be sent here: no longer when the service is about to stop."""
        if service.stopping:
            raise RefusedError("stopping", "The service stops; requests that are under way are answered.")
        return _json({"ready": True, "version": service.slot.current.version})

    @app.get("/metrics", tags=["operation"])
    async def metrics() -> Response:
        """What is counted, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_pages(app: FastAPI) -> None:
    app.mount("/static", StaticFiles(directory=HERE / "page", check_dir=False))
    app.mount("/swagger-ui", StaticFiles(directory=Path(str(swagger_ui_path))))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(HERE / "page" / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        headers = {"cache-control": "no-cache", "content-security-policy": API_PAGE_POLICY}
        return FileResponse(HERE / "api_page" / "index.html", headers=headers)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return FileResponse(HERE / "api_page" / "start.js")


@asynccontextmanager
async def _received(request: Request, service: Service) -> AsyncIterator[list[Upload]]:
    """The uploads of a request, which count as memory while the block runs."""
    service.labeller.check_load()
    with service.memory.share() as share:
        yield await read_uploads(request, service.settings, share)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode("utf-8", "backslashreplace"), status, media_type="application/json")


def _no_image(images: Sequence[dict[str, Any]], service: Service) -> Response:
    """None of the images can be used."""
    codes = {image["error"]["code"] for image in images}
    status = 413 if codes <= TOO_LARGE else 415 if codes <= NO_IMAGE else 422
    first = images[0]["error"]
    code = first["code"] if len(codes) == 1 else "no_usable_image"
    detail = first["detail"] if len(images) == 1 else f"None of {len(images)} images can be used; each says why."
    service.metrics.refused.labels(code).inc()
    return _json({"error": {"code": code, "detail": detail}, "images": list(images)}, status)


def _refusal(code: str, detail: str, status: int | None = None) -> Response:
    response = _json({"error": {"code": code, "detail": detail}, "images": []}, status or SERVICE_CODES[code][0])
    if response.status_code == 503:
        response.headers["retry-after"] = str(RETRY_SECONDS)
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    request.app.state.service.metrics.refused.labels(error.code).inc()
    return _refusal(error.code, error.detail)


async def _refuse_http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "bad_request")
    response = _refusal(code, str(error.detail), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _refuse_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    words = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
    return _refusal("bad_request", words)


class _PlainRoute(APIRoute):
    """A route whose function reads the request itself, without FastAPI's search for parameters before it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function as it is."""
        return cast("Callable[[Request], Coroutine[Any, Any, Response]]", self.endpoint)


class _Around:
    """Around every request: safe headers, counting, and an answer without traceback whatever happens."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                own_policy = any(name == POLICY_HEADER[0] for name, _ in headers)
                message["headers"] = headers + (HEADERS if own_policy else [*HEADERS, POLICY_HEADER])
            await send(message)

        try:
            await self._app(scope, receive, send_safely)
        except ClientDisconnect:
            status = CLIENT_GONE
        except asyncio.CancelledError:  # the server stops, and has waited for drain_seconds
            if status:
                raise
            await _refusal("stopping", "The service stops, and this request has taken too long.")(
                scope, receive, send_safely
            )
        except Exception:  # a defect, whatever it is: the log gets all of it, the client an id and no traceback
            name = uuid.uuid4().hex[:12]
            LOGGER.exception("Request %s to %r failed", name, scope["path"])
            if status:  # too late for another answer; the server closes the connection
                raise
            await _refusal("internal", f"The service has failed; its log says more under the id {name}.")(
                scope, receive, send_safely
            )
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._service.metrics.requests.labels(path, str(status)).inc()
            self._service.metrics.seconds.labels(path).observe(time.perf_counter() - start)
