//! What a registry that holds its reader, or that is not there, comes to where tenants name it.

use std::{sync::Arc, time::Duration};

use packgate::{
    core::{
        class::{Classified, Reason},
        limits::Limits,
    },
    http::{Discretion, HttpClient, HttpOptions, LeastRate},
    oci::{
        Source,
        auth::Anonymous,
        remote::{RemoteOptions, RemoteTarget},
    },
};
use tokio::net::TcpListener;

use super::{REPOSITORY, blob_of, by_tag, options, read, target_with};
use crate::support::registry::{Fault, Registry};

#[tokio::test]
async fn a_drip_is_ended_by_its_rate_where_one_is_asked_for() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(100_000);
    registry.put_blob(REPOSITORY, bytes);
    let least = LeastRate {
        bytes_per_second: 1_000,
        window: Duration::from_millis(200),
    };
    let http = HttpOptions {
        least_rate: Some(least),
        ..options()
    };
    let target = target_with(&registry.host(), &http, Arc::new(Anonymous));
    // Whatever comes fast is no drip, and neither is a short answer.
    assert!(read(&target, &blob).await.is_ok());
    registry.fault(Fault::on("GET", "/blobs/").drip(Duration::from_millis(20)));
    let error = read(&target, &blob).await.expect_err("it would never end");
    assert_eq!(error.reason(), Reason::RegistryUnavailable, "{error}");
    assert!(
        error.to_string().contains("at least 1000 bytes a second"),
        "{error}"
    );
}

#[tokio::test]
async fn why_there_is_no_connection_is_not_told_to_those_who_chose_the_address() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("bound").to_string()
    };
    let speaks_plain_http = Registry::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_host = silent.local_addr().expect("bound").to_string();
    let hosts = [
        closed,
        speaks_plain_http.host(),
        silent_host,
        "no-such-host.invalid:443".to_owned(),
    ];
    for (discretion, alike) in [(Discretion::Outcome, true), (Discretion::Cause, false)] {
        let http = HttpOptions {
            discretion,
            connect_timeout: Duration::from_millis(500),
            ..options()
        };
        let mut told = Vec::new();
        for host in &hosts {
            let repository = format!("{host}/{REPOSITORY}")
                .parse()
                .expect("a repository");
            let client = HttpClient::new(&http).expect("a client");
            let target = RemoteTarget::new(
                repository,
                &client,
                Arc::new(Anonymous),
                RemoteOptions::default(),
            )
            .expect("a target");
            let error = target
                .resolve(&by_tag("v1"), &Limits::DEFAULT)
                .await
                .expect_err(host);
            assert_eq!(
                error.reason(),
                Reason::RegistryUnavailable,
                "{host}: {error}"
            );
            told.push(
                error
                    .to_string()
                    .replace(host.as_str(), "HOST")
                    .replace("no-such-host.invalid", "HOST"),
            );
        }
        told.dedup();
        assert_eq!(told.len() == 1, alike, "{told:#?}");
        assert!(
            !alike || told[0].contains("could not be reached from here"),
            "{told:#?}"
        );
    }
}
