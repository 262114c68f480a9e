//! The same in a pack Job, with Secrets as the kubelet mounts them.

use std::net::IpAddr;

use packgate::core::{
    digest::Digest,
    job::{JobFetch, JobFetchCredential, JobFetchMirror, JobInputs},
    limits::InputLimits,
    lockfile::Lockfile,
    reason::Reason,
};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;

use super::BASIC;
use crate::{
    jobs::{PACK, failed, freeze, own_address, snapshot},
    support::{
        cli::Workspace,
        origin::{Demand, Origin, Pki, Proxy, RULES},
        registry::{Registry, Settings},
    },
};

/// A pack Job of one download.
struct PackJob {
    workspace: Workspace,
    inputs: JobInputs,
    lock: Vec<u8>,
    _registry: Registry,
}

impl PackJob {
    async fn new(address: IpAddr, pki: &Pki, url: &str) -> Self {
        let registry = Registry::listening(address, Settings::default()).await;
        let (_, inputs) = freeze(&registry);
        let digest = Digest::of_bytes(RULES.as_bytes());
        let document = json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "Lockfile", "name": "siem",
            "artifacts": [{
                "name": "rules", "type": "http", "origin": url, "target": "opt/rules",
                "checksum": digest, "size": RULES.len(),
            }],
        });
        let lock = Lockfile::parse(document.to_string().as_bytes(), &InputLimits::DEFAULT)
            .expect("a lock");
        let signed_origins = lock
            .signed_origins()
            .map(|(_, artifact, signed)| (artifact.name.clone(), signed.clone()))
            .collect();
        let canonical = lock.to_canonical();
        let mut inputs = JobInputs {
            lock_digest: canonical.digest,
            signed_origins,
            fetch_ca: Some(pki.ca.clone()),
            ..inputs
        };
        inputs.source.context = None;
        Self {
            workspace: Workspace::new(),
            inputs,
            lock: canonical.bytes,
            _registry: registry,
        }
    }

    fn secret(&self, folder: &str, keys: &[(&str, &str)]) {
        for (key, value) in keys {
            self.workspace
                .write(&format!("secrets/{folder}/{key}"), value);
        }
    }

    fn fetch(&mut self, host: &str, proxy: bool, mirrors: &[(&str, &str)]) {
        self.inputs.fetch = JobFetch {
            credentials: vec![JobFetchCredential {
                host: host.into(),
                path: None,
                plain_http: false,
                secret: "files".into(),
            }],
            proxy_secret: proxy.then(|| "proxy".into()),
            mirrors: mirrors
                .iter()
                .map(|(from, to)| JobFetchMirror {
                    from: (*from).into(),
                    to: (*to).into(),
                })
                .collect(),
        };
        snapshot(&self.workspace, &self.lock, &self.inputs);
    }

    fn line() -> String {
        format!("{PACK} --fetch-secrets secrets")
    }

    fn fails(&self, reason: Reason, code: i32, named: &str) {
        let message = failed(&self.workspace, &Self::line(), code, reason);
        assert!(message.contains(named), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_uses_the_secrets_that_are_mounted() {
    let Some(address) = own_address("a_job_uses_the_secrets_that_are_mounted") else {
        return;
    };
    let pki = Pki::new();
    let origin = Origin::listening(address, Some(&pki), BASIC);
    let url = origin.url("/rules.txt?sig=hunter2");
    let mut job = PackJob::new(address, &pki, &url).await;
    job.fetch(&origin.host(), false, &[]);
    job.fails(
        Reason::SourceNotFound,
        3,
        "spec.fetch.credentials[0].secretRef (Secret team-a/files) has none of the keys username and",
    );
    job.secret("0", &[("username", "user"), ("password", "wrong")]);
    job.fails(
        Reason::FetchFailed,
        3,
        "HTTP 401 to the credentials of spec.fetch.credentials[0].secretRef (Secret team-a/files)",
    );
    job.secret("0", &[("password", "hunter2")]);
    job.workspace.run(&PackJob::line()).ok();
    assert!(
        origin
            .heads()
            .iter()
            .all(|head| head.contains("?sig=hunter2")),
        "the URL of the lock is needed"
    );
    job.fetch("elsewhere.example.com", false, &[]);
    job.fails(Reason::FetchFailed, 3, "in spec.fetch.credentials");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_has_client_certificates_proxies_and_mirrors() {
    let Some(address) = own_address("a_job_has_client_certificates_proxies_and_mirrors") else {
        return;
    };
    let pki = Pki::new();
    let origin = Origin::listening(address, Some(&pki), Demand::ClientCertificate);
    let proxy = Proxy::listening(address, Some("Basic cHJveHk6aHVudGVyMg=="));
    let mut job = PackJob::new(address, &pki, "https://up.example.invalid/rules.txt").await;
    let (certificate, key) = pki.certificate("client", ExtendedKeyUsagePurpose::ClientAuth);
    job.secret("0", &[("tls.crt", &certificate), ("tls.key", &key)]);
    let mirror = origin.host();
    let mirrors = [("up.example.invalid", mirror.as_str())];
    job.fetch(&mirror, true, &mirrors);
    job.fails(
        Reason::SourceNotFound,
        3,
        "spec.fetch.proxySecretRef (Secret team-a/proxy) has no key address",
    );
    job.secret("proxy", &[("address", &proxy.url())]);
    job.fails(
        Reason::FetchFailed,
        3,
        "of spec.fetch.proxySecretRef (Secret team-a/proxy) asks for a user name and password",
    );
    job.secret("proxy", &[("username", "proxy"), ("password", "hunter2\n")]);
    job.workspace.run(&PackJob::line()).ok();
    let connect = format!("CONNECT {mirror} ");
    assert!(
        proxy.heads().iter().any(|head| head.starts_with(&connect)),
        "{:#?}",
        proxy.heads()
    );
    // Without the mirror there is no such host, without the certificate the mirror refuses.
    job.fetch(&mirror, true, &[]);
    job.fails(Reason::FetchFailed, 3, "up.example.invalid");
    job.fetch("elsewhere.example.com", true, &mirrors);
    job.fails(Reason::FetchFailed, 3, "asks for a client certificate");
}
