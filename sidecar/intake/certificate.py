"""The sidecar's own certificate towards its clients, and whom it asks for theirs; renewed when a file changes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from sidecar.configuration.pem import read_authorities, read_pair, server_context
from sidecar.configuration.renewal import Renewed

CERTIFICATE_KEY: Final = "TENANTSCOPE_TLS_CERTIFICATE_FILE"
PRIVATE_KEY_KEY: Final = "TENANTSCOPE_TLS_KEY_FILE"
CLIENT_CA_KEY: Final = "TENANTSCOPE_TLS_CLIENT_CA_FILE"


@dataclass(frozen=True, slots=True)
class _Content:
    chain: bytes
    key: bytes
    client_roots: bytes | None


class Certificate:
    """What TLS is served with.

    Args:
        client_ca: who must have signed a client's certificate; without it, clients need none.

    Raises:
        ConfigurationError: a file cannot be used; a line for each, which names its setting.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        files = [certificate, key] if client_ca is None else [certificate, key, client_ca]
        self._mutual = client_ca is not None

        def read() -> _Content:
            chain, secret = read_pair(CERTIFICATE_KEY, certificate, PRIVATE_KEY_KEY, key)
            return _Content(chain, secret, None if client_ca is None else read_authorities(CLIENT_CA_KEY, client_ca))

        self._content = Renewed("certificates of the listener", files, read)
        content = self._content.value
        self._context = content, server_context(content.chain, content.key, content.client_roots)

    def credentials(self) -> grpc.ServerCredentials:
        """For a port of a gRPC server; each handshake is done with what is in the files by then."""
        # The client's certificate is either proved or not asked for: a name in it can be believed.
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._renewed(), self._mutual)

    def context(self) -> ssl.SSLContext:
        """For a connection of any other server, with what is in the files by now."""
        self._content.renew()
        content = self._content.value
        if self._context[0] is not content:
            self._context = content, server_context(content.chain, content.key, content.client_roots)
        return self._context[1]

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        content = self._content.value
        return grpc.ssl_server_certificate_configuration([(content.key, content.chain)], content.client_roots)

    def _renewed(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        given = self._content.value

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            self._content.renew()
            if self._content.value is given:
                return None
            given = self._content.value
            return self._configuration()

        return renewed
