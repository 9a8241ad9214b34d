# One image for all programs; docker-compose.yml sets which one a container runs.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /bin/postcard/ ./cmd/api ./cmd/worker ./cmd/postcard ./cmd/plivosim

# Distroless: no shell and no package manager, but CA certificates and an
# unprivileged user.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /bin/postcard/ /usr/local/bin/
USER nonroot
EXPOSE 8080
CMD ["/usr/local/bin/api"]
