//! Keyless signatures with the cluster's own tokens, by a private Sigstore of real servers.

use crate::support::{
    Test,
    sigstore::{AUDIENCE, ISSUER, REKORS},
};

/// `REPOSITORY@DIGEST` of a bundle that nobody signed.
fn unsigned(test: &Test, name: &str) -> String {
    let registry = &test.cluster.registry;
    let lock = test.lock(registry, name, &[("a.txt", "one\n")]);
    let target = test.repository(registry, name);
    let packed = test.packgate(&format!(
        "pack {} --to {target}:v1 {}",
        lock.path.display(),
        test.cluster.http_flag()
    ));
    format!(
        "{target}@{}",
        packed.ok().split_once('@').expect("a digest").1
    )
}

#[test]
fn a_service_account_signs_with_its_token() {
    let Some(test) = Test::start("a_service_account_signs_with_its_token") else {
        return;
    };
    let Some(sigstore) = test.sigstore() else {
        return;
    };
    let (root, http) = (sigstore.trusted_root(), test.cluster.http_flag());
    let who = test.service_account_identity("default");
    for rekor in REKORS {
        let image = unsigned(&test, &format!("{rekor:?}").to_lowercase());
        let verify = |who: &str, issuer: &str| {
            test.packgate(&format!(
                "verify {image} --certificate-identity {who} \
                --certificate-oidc-issuer {issuer} --trusted-root {root} {http}"
            ))
        };
        verify(&who, ISSUER).refused("NoSignatures");
        let config = sigstore.signing_config(rekor);
        let sign = || {
            test.cosign(&format!(
                "sign --identity-token token --signing-config {config} \
                --trusted-root {root} {image}"
            ))
        };
        test.write(
            "token",
            sigstore.token("email", &[("email", "dev@example.com")]),
        );
        sign().ok();
        verify(&who, ISSUER).refused("IdentityMismatch");
        test.service_account_token("token", AUDIENCE);
        sign().ok();
        test.cosign(&format!(
            "verify --certificate-identity {who} --certificate-oidc-issuer \
            {ISSUER} --trusted-root {root} {image}"
        ))
        .ok();
        verify(&who, ISSUER).ok();
        verify(&test.service_account_identity("other"), ISSUER).refused("IdentityMismatch");
        verify(&who, &sigstore.issuer("email")).refused("IdentityMismatch");
    }
}

/// A token that Pods have for the API server must not be good for a certificate.
#[test]
fn a_token_for_another_audience_signs_nothing() {
    let Some(test) = Test::start("a_token_for_another_audience_signs_nothing") else {
        return;
    };
    let Some(sigstore) = test.sigstore() else {
        return;
    };
    let image = unsigned(&test, "audience");
    test.service_account_token("token", ISSUER);
    let (config, root) = (sigstore.signing_config(REKORS[0]), sigstore.trusted_root());
    test.cosign(&format!(
        "sign --identity-token token --signing-config {config} --trusted-root {root} {image}"
    ))
    .refused("audience");
}
