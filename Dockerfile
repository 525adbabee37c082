# stateproxy in a container: one static binary, no shell, no root. The binary is
# the one of the release archive, to the byte; its licences and bill of materials
# come with it.
FROM --platform=$BUILDPLATFORM golang:1.26.10 AS build
ARG TARGETARCH=amd64
ARG VERSION=dev
ARG COMMIT=unknown
ARG SOURCE_DATE_EPOCH=1
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN PLATFORMS=linux/$TARGETARCH VERSION=$VERSION COMMIT=$COMMIT SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH ./scripts/dist /dist \
    && mkdir -p /image/state && tar -xzf /dist/*.tar.gz --strip-components=1 -C /image

FROM scratch
COPY --from=build /image/stateproxy /stateproxy
COPY --from=build /image/sbom.cdx.json /sbom.cdx.json
COPY --from=build /image/licences /licences
# Mount the folder that holds config.yaml, not the file, so that a changed file
# is seen. It may be read-only if handoff.state_file names a file in the other.
VOLUME /etc/stateproxy
COPY --from=build --chown=65532:65532 /image/state /var/lib/stateproxy
VOLUME /var/lib/stateproxy
USER 65532:65532
EXPOSE 42424
# Longer than timeouts.drain must pass before a stop becomes a kill: run with
# --stop-timeout 30, and --read-only, for nothing is written elsewhere.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["/stateproxy", "healthcheck"]
ENTRYPOINT ["/stateproxy"]
CMD ["run", "-config", "/etc/stateproxy/config.yaml"]
