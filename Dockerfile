# The image of all four faces: one static binary, certificate roots, nobody's user.
FROM docker.io/library/rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# The target is named so that build scripts and proc macros stay dynamic.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin packgate --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && install -D "target/$(rustc -vV | sed -n 's/^host: //p')/release/packgate" /out/packgate

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/packgate /packgate
USER 65532:65532
ENTRYPOINT ["/packgate"]
