"""Destinations from the settings: the upstreams in the order in which they are named, then the embedded store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .configuration.settings import ConfigurationError, Settings
from .configuration.upstreams import Route
from .conventions import STORE
from .delivery import Credentials, Destination, EmbeddedStore, Exit, UpstreamHttp, UpstreamOtlp, Way


class Destinations:
    """What telemetry is delivered to. Opens nothing before `exits` are made.

    Attributes:
        names: as in metrics.
        store: the embedded store, once it is made; None without one.

    Raises:
        ConfigurationError: credentials of an upstream cannot be used; every line names its setting.
    """

    def __init__(self, settings: Settings) -> None:
        upstreams = settings.upstreams
        self._state_dir = settings.state_dir
        self._credentials = load_credentials(upstreams.routes)
        self._routes = upstreams.routes
        self._keeps_store = upstreams.embedded_store
        self.names = [route.name for route in upstreams.routes] + [STORE] * upstreams.embedded_store
        self.store: EmbeddedStore | None = None

    @property
    def exits(self) -> list[Exit]:
        """What delivery is to make of them."""
        exits = [
            Exit(Way(route.name, joins=True, may_lose=not route.waits), partial(_upstream, route, credentials))
            for route, credentials in zip(self._routes, self._credentials, strict=True)
        ]
        if self._keeps_store:
            # It notes which batches it has, so it must get each as it was taken.
            exits.append(Exit(Way(STORE, joins=False), self._open_store))
        return exits

    def __str__(self) -> str:
        """For people."""
        return ", ".join([*(route.name for route in self._routes), *(["embedded store"] * self._keeps_store)])

    def _open_store(self) -> Destination:
        self.store = EmbeddedStore(self._state_dir)
        return self.store


def load_credentials(routes: Sequence[Route]) -> list[Credentials]:
    """What each upstream is shown.

    Raises:
        ConfigurationError: a file cannot be used; every line names its setting.
    """
    found: list[Credentials] = []
    lines: list[str] = []
    for route in routes:
        try:
            found.append(
                Credentials(
                    headers=route.headers_file,
                    ca=route.ca_file,
                    certificate=route.certificate_file,
                    key=route.key_file,
                    setting=route.setting,
                )
            )
        except ConfigurationError as error:
            lines += error.lines
    if lines:
        raise ConfigurationError(*dict.fromkeys(lines))
    return found


def _upstream(route: Route, credentials: Credentials) -> Destination:
    if route.protocol == "grpc":
        return UpstreamOtlp(route.upstream, credentials, compress=route.compression == "gzip")
    return UpstreamHttp(route.upstream, credentials, compression=route.compression)
