# The image of all four faces: one static binary, certificate roots, nobody's user.
FROM docker.io/library/rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
WORKDIR /src
COPY . .
# The target is named so that build scripts and proc macros stay dynamic.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin packgate --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && install -D "target/$(rustc -vV | sed -n 's/^host: //p')/release/packgate" /out/packgate

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/packgate /packgate
# Large buffers go back to the system as soon as they are freed. By default glibc raises the size from which it does so up to
# 32 MiB, and keeps free memory in up to eight arenas for each core: several times what is in use (`make bench-hostile`).
ENV MALLOC_ARENA_MAX=2
ENV MALLOC_MMAP_THRESHOLD_=131072
ENV MALLOC_TRIM_THRESHOLD_=262144
USER 65532:65532
ENTRYPOINT ["/packgate"]
