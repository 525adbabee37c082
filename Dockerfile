# stateproxy in a container: one static binary, no shell, no root.
FROM golang:1.26 AS build
ARG VERSION=dev
ARG COMMIT=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" \
    -o /out/stateproxy ./cmd/stateproxy

FROM scratch
COPY --from=build /out/stateproxy /stateproxy
# Mount the folder that holds config.yaml, not the file, so that a changed file
# is seen.
VOLUME /etc/stateproxy
USER 65532:65532
EXPOSE 42424
HEALTHCHECK --interval=10s --timeout=3s CMD ["/stateproxy", "healthcheck"]
ENTRYPOINT ["/stateproxy"]
CMD ["run", "-config", "/etc/stateproxy/config.yaml"]
