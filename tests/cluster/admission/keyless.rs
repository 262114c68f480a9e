//! From a `ServiceAccount`'s token to a mounted bundle: the sign Job signs as its namespace, a
//! policy knows that name, and the trust root decides what the certificate is worth.

use std::fs;

use serde_json::json;

use super::{
    root::{self, Root, keyless_policy},
    scene::{As, Scene, object},
    timely::becomes,
};
use crate::support::{
    Test,
    api::{Api, Store},
    bundle::packed_bundle,
    namespace::kubectl,
    sigstore::{ISSUER, REKORS, Sigstore},
};

/// What the sign Job needs to know, as the namespace's owner gives it.
fn signing_config(test: &Test, sigstore: &Sigstore) -> String {
    let content = |path: String| fs::read_to_string(path).expect("a file");
    let data = json!({
        "signing_config.json": content(sigstore.signing_config(REKORS[0])),
        "trusted_root.json": content(sigstore.trusted_root()),
    });
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sigstore", "namespace": test.namespace.name},
        "data": data,
    })
    .to_string()
}

#[test]
fn an_account_signs_and_its_name_is_admitted_as_long_as_the_trust_root_says() {
    let Some(scene) =
        Scene::start("an_account_signs_and_its_name_is_admitted_as_long_as_the_trust_root_says")
    else {
        return;
    };
    let test = &scene.test;
    let Some(sigstore) = test.sigstore() else {
        return;
    };
    let api = Api::new();

    test.namespace.apply(&signing_config(test, &sigstore));
    let lock = test.lock(&test.cluster.registry, "keyless", &[("a.txt", "one\n")]);
    test.namespace.apply(&lock.config_map("lock"));
    let mut bundle = packed_bundle("keyless", "lock", &scene.repository("keyless"));
    bundle["spec"]["signing"] =
        json!({"mode": "Namespace", "keyless": {}, "signingConfigRef": {"name": "sigstore"}});
    test.namespace.apply(&bundle.to_string());
    let ready = test.ready("keyless");
    let digest = ready["status"]["bundle"]["digest"]
        .as_str()
        .expect("a digest");
    let reference = format!("{}@{digest}", scene.repository("keyless"));
    let identity = test.service_account_identity("default");
    let root = sigstore.trusted_root();
    test.cosign(&format!(
        "verify --certificate-identity {identity} --certificate-oidc-issuer \
        {ISSUER} --trusted-root {root} {reference}"
    ))
    .ok();

    let good = root::document(&sigstore);
    let root = Root::given(test, "root", &good);
    let policy = |account: &str| keyless_policy(&scene, "keyless", "**", &root, account);
    scene.enforce(&[policy("default")]);
    becomes(&scene, &api, &reference, None);
    api.create(
        &test.namespace.name,
        &object(test, "Pod", "reader", &reference, As::Volume),
        Store::Yes,
    )
    .expect("admitted");
    becomes(
        &scene,
        &api,
        &scene.pack("keyed", Some("a")),
        Some("NoMatchingAuthority"),
    );

    // Another authority: what was admitted before is judged anew.
    let mut other = good.clone();
    other["certificateAuthorities"] = other["timestampAuthorities"].clone();
    root.holds(&other);
    println!(
        "another authority: refused after {:?}",
        becomes(&scene, &api, &reference, Some("UntrustedChain"))
    );
    // The authority's time is over, and was before it signed.
    let mut over = good.clone();
    for authority in over["certificateAuthorities"]
        .as_array_mut()
        .expect("authorities")
    {
        authority["validFor"] =
            json!({"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"});
    }
    root.holds(&over);
    println!(
        "over: refused after {:?}",
        becomes(&scene, &api, &reference, Some("UntrustedChain"))
    );
    // No root at all: the policy refuses what it governs.
    root.holds(&json!("nothing"));
    println!(
        "unreadable: refused after {:?}",
        becomes(&scene, &api, &reference, Some("InvalidSpec"))
    );
    root.holds(&good);
    println!(
        "the root again: admitted after {:?}",
        becomes(&scene, &api, &reference, None)
    );

    // Another account is somebody else, and a root that a policy names stays.
    scene.enforce(&[policy("other")]);
    becomes(&scene, &api, &reference, Some("IdentityMismatch"));
    kubectl(["delete", "trustroot", &root.name])
        .run()
        .refused("keyless");
}
