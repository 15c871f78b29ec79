# The Collector with the components of deploy/collector/builder.yaml, and the configurations to run it with.
#
#   docker build --file deploy/containers/collector.Dockerfile --tag tenantscope/collector:0.159.0 .
#
# By default it is the one Collector of collector-config.yaml; the gateway's tiers name their files as arguments:
# `--config /etc/tenantscope/gateway/common.yaml --config /etc/tenantscope/gateway/balancer.yaml`.

FROM golang:1.26.8-bookworm AS build
WORKDIR /build
COPY deploy/collector/builder.yaml .
RUN CGO_ENABLED=0 go run go.opentelemetry.io/collector/cmd/builder@v0.159.0 --config builder.yaml \
 && install --directory --mode 0700 /state

FROM busybox:1.37.0-musl
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/build/otelcol-tenantscope /usr/local/bin/otelcol-tenantscope
COPY collector-config.yaml /etc/tenantscope/collector-config.yaml
COPY deploy/gateway /etc/tenantscope/gateway
COPY --from=build --chown=10001:10001 /state /var/lib/tenantscope
# Inside a container, loopback is nobody else: listen where the others are, and let a network policy say who they are.
ENV TENANTSCOPE_COLLECTOR_STATE_DIR=/var/lib/tenantscope \
    TENANTSCOPE_COLLECTOR_LISTEN=0.0.0.0:14317 \
    TENANTSCOPE_COLLECTOR_PROMETHEUS=0.0.0.0:9464 \
    TENANTSCOPE_COLLECTOR_HEALTH=0.0.0.0:13133
VOLUME ["/var/lib/tenantscope"]
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:13133/"]
ENTRYPOINT ["otelcol-tenantscope"]
CMD ["--config", "/etc/tenantscope/collector-config.yaml"]
