use serde_json::json;

use super::{
    SignJobSigner, build_pack_job, build_sign_job,
    tests::{SCRATCH, assert_restricted, inputs, json, setup, with_secrets},
};
use crate::core::{
    digest::Digest,
    job::{JobFetch, JobFetchCredential, JobInputs},
};

#[test]
fn secrets_of_downloads_are_mounted_into_the_pack_job_only() {
    let (object, packing) = with_secrets();
    let credential = |host: &str, secret: &str| JobFetchCredential {
        host: host.into(),
        path: None,
        plain_http: false,
        secret: secret.into(),
    };
    let inputs = JobInputs {
        fetch: JobFetch {
            credentials: vec![
                credential("f.example.com", "files"),
                credential("g.example.com", "files"),
            ],
            proxy_secret: Some("proxy".into()),
            mirrors: Vec::new(),
        },
        ..inputs()
    };
    let job = json(&build_pack_job(
        &object,
        &packing,
        &inputs,
        SCRATCH,
        &setup(),
    ));
    assert_restricted(&job);
    let pod = &job["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().expect("a list");
    assert_eq!(
        args[args.len() - 2..],
        [json!("--fetch-secrets"), json!("/credentials/fetch")]
    );
    let volumes = pod["volumes"].as_array().expect("a list");
    let fetch = volumes
        .iter()
        .find(|volume| volume["name"] == "fetch")
        .expect("a volume");
    let sources = fetch["projected"]["sources"].as_array().expect("a list");
    let told: Vec<_> = sources
        .iter()
        .map(|source| {
            let secret = &source["secret"];
            assert_eq!(secret["optional"], true, "the Job says what is missing");
            (
                secret["name"].as_str().expect("a name"),
                secret["items"][0]["key"].as_str().expect("a key"),
                secret["items"][0]["path"].as_str().expect("a path"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("files", "username", "0/username"),
            ("files", "username", "1/username"),
            ("proxy", "address", "proxy/address"),
        ]
    );
    let sign = json(&build_sign_job(
        &object,
        &packing,
        &inputs,
        &Digest::of_bytes(b"bundle"),
        &SignJobSigner::Platform("packgate-platform-key".into()),
        &setup(),
    ));
    for name in ["files", "proxy", "fetch"] {
        let name = format!("\"{name}\"");
        assert!(!sign.to_string().contains(&name), "{name} where the key is");
    }
}
