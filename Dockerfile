# Builds the one binary, and an image that holds little else.
FROM rust:1.95-bookworm AS build
# protoc reads the descriptions of etcd's calls.
RUN apt-get update && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin muniment && cp target/release/muniment /muniment

FROM debian:12-slim
# curl is for the health check; the certificates are the authorities for Kafka over TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/muniment --create-home muniment
COPY --from=build /muniment /usr/local/bin/muniment
USER muniment
WORKDIR /var/lib/muniment
# Commands in the container find the server by its data folder: `docker compose exec muniment muniment search …`.
ENV MUNIMENT_DATA_DIR=/var/lib/muniment/data
VOLUME /var/lib/muniment
EXPOSE 8443
ENTRYPOINT ["muniment"]
CMD ["serve", "--data-dir", "/var/lib/muniment/data", "--bind-address", "0.0.0.0:8443"]
