//! The API server as a program speaks to it: answers with their codes and causes, which `kubectl`
//! does not show.

use kube::{Client, Config, config::KubeConfigOptions, core::Status};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A client of the API server.
pub(crate) struct Api {
    client: Client,
    runtime: Runtime,
}

/// Is it stored, or only judged?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Yes,
    /// `dryRun=All`
    No,
}

impl Api {
    /// With the rights of whoever runs the tests.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// As the `ServiceAccount` with this token.
    pub(crate) fn with_token(token: &str) -> Self {
        Self::with(|config| {
            config.auth_info = kube::config::AuthInfo {
                token: Some(token.to_owned().into()),
                ..Default::default()
            };
        })
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        packgate::install_crypto_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(async {
            let mut config = Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .expect("a kubeconfig");
            config.default_retry = false;
            change(&mut config);
            Client::try_from(config).expect("a client")
        });
        Self { client, runtime }
    }

    /// The client, for tests that ask many things at once.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs something on this client's threads.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Creates an object.
    pub(crate) fn create(
        &self,
        namespace: &str,
        object: &Value,
        store: Store,
    ) -> Result<Value, Box<Status>> {
        self.block_on(create(&self.client, namespace, object, store))
    }

    /// Any request: its method, path with query, type and body.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Value, Box<Status>> {
        self.block_on(send(&self.client, method, path, content_type, body.into()))
    }
}

/// Creates an object.
pub(crate) async fn create(
    client: &Client,
    namespace: &str,
    object: &Value,
    store: Store,
) -> Result<Value, Box<Status>> {
    let dry_run = if store == Store::No {
        "?dryRun=All"
    } else {
        ""
    };
    let uri = format!("{}{dry_run}", path(namespace, object));
    send(
        client,
        "POST",
        &uri,
        "application/json",
        object.to_string().into_bytes(),
    )
    .await
}

async fn send(
    client: &Client,
    method: &str,
    uri: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Value, Box<Status>> {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", content_type)
        .body(body);
    match client.request::<Value>(request.expect("a request")).await {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic!("the API server: {error}"),
    }
}

/// Where objects like this one are made.
fn path(namespace: &str, object: &Value) -> String {
    let text = |key: &str| {
        object[key]
            .as_str()
            .unwrap_or_else(|| panic!("no {key}: {object}"))
            .to_owned()
    };
    let (version, kind) = (text("apiVersion"), text("kind").to_lowercase());
    let root = if version.contains('/') {
        format!("/apis/{version}")
    } else {
        format!("/api/{version}")
    };
    let plural = kind
        .strip_suffix('y')
        .map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
    if namespace.is_empty() {
        format!("{root}/{plural}")
    } else {
        format!("{root}/namespaces/{namespace}/{plural}")
    }
}
