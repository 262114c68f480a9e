//! Slow and absent registries, with the options for tenants' registries.

use std::{sync::Arc, time::Duration};

use packgate::{
    core::{
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
    },
    http::{ConnectionErrorDetail, HttpClient, HttpOptions, MinTransferRate},
    oci::{
        ContentSource,
        credentials::AnonymousCredentials,
        remote::{RegistryOptions, RegistryTarget},
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
    let least = MinTransferRate {
        bytes_per_second: 1_000,
        window: Duration::from_millis(200),
    };
    let http = HttpOptions {
        min_transfer_rate: Some(least),
        ..options()
    };
    let target = target_with(&registry.host(), &http, Arc::new(AnonymousCredentials));
    // Fast content passes the minimum transfer rate, and so does a short response.
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
    for (connection_error_detail, alike) in [
        (ConnectionErrorDetail::OutcomeOnly, true),
        (ConnectionErrorDetail::FullCause, false),
    ] {
        let http = HttpOptions {
            connection_error_detail,
            connect_timeout: Duration::from_millis(500),
            ..options()
        };
        let mut told = Vec::new();
        for host in &hosts {
            let repository = format!("{host}/{REPOSITORY}")
                .parse()
                .expect("a repository");
            let client = HttpClient::new(&http).expect("a client");
            let target = RegistryTarget::new(
                repository,
                &client,
                Arc::new(AnonymousCredentials),
                RegistryOptions::default(),
            )
            .expect("a target");
            let error = target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
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
            !alike || told[0].contains("the operator's log has the cause"),
            "{told:#?}"
        );
    }
}
