use super::*;
use crate::core::reason::ClassifiedError;

const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references_take_the_canonical_form_of_containerd() {
    let pinned = format!("r.example.com/a/b:v1@{HEX}");
    for (text, canonical) in [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.2", "docker.io/library/nginx:1.2"),
        ("team/app", "docker.io/team/app"),
        ("index.docker.io/nginx", "docker.io/library/nginx"),
        ("registry-1.docker.io/nginx", "docker.io/library/nginx"),
        ("registry.hub.docker.com/team/app:1", "docker.io/team/app:1"),
        ("Registry-1.Docker.io.:443/team/app", "docker.io/team/app"),
        ("[2001:0DB8:0::1]:05000/a", "[2001:db8::1]:5000/a"),
        ("[2001:db8::1]/a", "[2001:db8::1]/a"),
        ("10.200.0.1:05000/a", "10.200.0.1:5000/a"),
        ("R.Example.com/a/b", "r.example.com/a/b"),
        ("r.example.com:443/a", "r.example.com/a"),
        ("r.example.com./a", "r.example.com/a"),
        ("localhost/a", "localhost/a"),
        ("LocalHost:443/a", "localhost/a"),
        ("registry:443/a", "registry:443/a"),
        ("REGISTRY:5000/a", "registry:5000/a"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("[::1]:5000/a", "[::1]:5000/a"),
        ("127.0.0.1:5000/a__b/c--d.e", "127.0.0.1:5000/a__b/c--d.e"),
        (&pinned, &pinned),
    ] {
        let reference: ImageReference = text.parse().expect(text);
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(
            canonical.parse::<ImageReference>().as_ref(),
            Ok(&reference),
            "{canonical} is read as something else"
        );
    }
}

#[test]
fn what_is_no_reference_is_refused() {
    let long = format!("r.example.com/{}", "a".repeat(10_000));
    let wide = format!("r.example.com/{}", "a/".repeat(130));
    for text in [
        "",
        "https://r.example.com/a",
        "r.example.com/",
        "r.example.com/A",
        "r.example.com/a//b",
        "r.example.com/a/",
        "r.example.com/-a",
        "r.example.com/a..b",
        "r.example.com/a___b",
        "r.example.com/a:",
        "r.example.com/a:.x",
        "r.example.com/a@",
        "r.example.com/a@sha512:00",
        "r.example.com/a@sha256:00",
        "-r.example.com/a",
        "r.example.com:99999/a",
        "r.example.com:0/a",
        "r..example.com/a",
        "REGISTRY/a",
        "registry./a",
        "r.example.com/ä",
        "r.example.com/a b",
        "[::zz]:5000/a",
        "[::ffff:ac8:1]:5000/a",
        "[::ffff:10.200.0.1]:5000/a",
        "[fe80::1%eth0]:5000/a",
        "[::]:5000/a",
        "127.1:5000/a",
        "0x7f.1/a",
        "2130706433:5000/a",
        "0177.0.0.1/a",
        &long,
        &wide,
    ] {
        assert!(text.parse::<ImageReference>().is_err(), "{text}");
    }
}

#[test]
fn locations_name_registries_layouts_and_archives() {
    for text in [
        "oci:out",
        "oci:out:v1",
        "oci:a/b.c/out:v1",
        "oci-archive:x.tar:v1",
        "r.example.com/a:v1",
        &format!("oci:out:v1@{HEX}"),
        &format!("oci:out@{HEX}"),
    ] {
        assert_eq!(
            text.parse::<BundleLocation>().expect(text).to_string(),
            *text
        );
    }
    for text in [
        "oci:",
        "oci::v1",
        "oci:x:a b",
        "oci-archive:",
        "OCI:5000/x",
        "Oci-Archive:5000/x",
    ] {
        assert!(text.parse::<BundleLocation>().is_err(), "{text}");
    }
}

#[test]
fn the_digest_wins_over_the_tag() {
    let reference: ImageReference = format!("r.example.com/a:v1@{HEX}").parse().expect("valid");
    assert_eq!(
        reference.tag_or_digest(),
        TagOrDigest::Digest(Digest::of_bytes(b""))
    );
    assert_eq!(
        reference.to_pinned().expect("pinned").to_string(),
        format!("r.example.com/a@{HEX}")
    );
    let tagged: ImageReference = "r.example.com/a:v1".parse().expect("valid");
    assert_eq!(
        tagged.to_pinned().expect_err("no digest").reason(),
        Reason::DigestRequired
    );
    assert_eq!(
        "r.example.com/a"
            .parse::<ImageReference>()
            .expect("valid")
            .tag_or_digest()
            .to_string(),
        "latest"
    );
}
