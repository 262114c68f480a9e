//! Sends requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{Body, Certificate, ClientBuilder, NoProxy, Response};
use tokio::time::timeout;
use url::Url;

use super::{
    AddressPolicy, Answer, Discretion, Head, HttpError, HttpOptions, LeastRate, Proxy, Request,
    Retries, address::GuardedResolver, error::root_cause, redact::shown, redirect,
    request::Payload, retry::Waits,
};

/// Redirects of one request. Enough for a registry that hands its blobs to a store behind a
/// delivery network.
const MAX_REDIRECTS: usize = 5;

/// Sends requests under the rules of this module. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    addresses: AddressPolicy,
    proxied: bool,
    idle: Duration,
    answer: Duration,
    least_rate: Option<LeastRate>,
    discretion: Discretion,
    retries: Retries,
    requests: Arc<AtomicU64>,
}

impl HttpClient {
    /// A client.
    ///
    /// Errors: [`HttpError::Setup`] for certificates or a proxy that cannot be used,
    /// [`HttpError::Address`] for a proxy that may not be reached.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let client = builder(options)?
            .build()
            .map_err(|e| setup("the HTTP client", &e))?;
        Ok(Self {
            client,
            addresses: options.addresses.clone(),
            proxied: matches!(options.proxy, Proxy::Through { .. }),
            idle: options.idle_timeout,
            answer: options.answer_timeout,
            least_rate: options.least_rate,
            discretion: options.discretion,
            retries: options.retries,
            requests: Arc::default(),
        })
    }

    /// The same client with a counter of its own.
    #[must_use]
    pub fn counted(&self) -> Self {
        Self {
            requests: Arc::default(),
            ..self.clone()
        }
    }

    /// Requests that were sent, with every retry and redirect, by this client and its clones.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Sends a request, follows redirects and tries again where that is allowed. The answer may
    /// have any status.
    pub async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        // The library's futures have kilobytes; whoever calls us should not carry them around.
        Box::pin(self.follow(request)).await
    }

    async fn follow(&self, mut request: Request) -> Result<Answer, HttpError> {
        for _ in 0..=MAX_REDIRECTS {
            let again = request.again();
            let answer = self.try_send(request).await?;
            match redirect::next(again, answer.head())? {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        Err(HttpError::Redirect {
            url: "the request".into(),
            cause: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    /// Sends a request and reads the whole answer, at most `limit` bytes, within the time for small
    /// answers.
    pub async fn fetch(&self, request: Request, limit: usize) -> Result<(Head, Bytes), HttpError> {
        let url = request.url.clone();
        let both = async {
            let answer = self.send(request).await?;
            Ok((answer.head().clone(), answer.bytes(limit).await?))
        };
        self.within_answer_time(&url, both).await?
    }

    /// Bounds the time that a small answer may take, from the request to its last byte.
    pub async fn within_answer_time<T>(
        &self,
        url: &Url,
        work: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        let late = |_| HttpError::Timeout {
            url: shown(url),
            wait: "complete answer",
            seconds: self.answer.as_secs(),
        };
        timeout(self.answer, Box::pin(work)).await.map_err(late)
    }

    async fn try_send(&self, mut request: Request) -> Result<Answer, HttpError> {
        let mut waits = Waits::new(&self.retries);
        loop {
            let again = request.again().filter(|again| again.repeatable);
            let outcome = self.send_once(request).await;
            match (again, waits.after(&outcome)) {
                (Some(next), Some(wait)) => {
                    tokio::time::sleep(wait).await;
                    request = next;
                }
                _ => return outcome,
            }
        }
    }

    async fn send_once(&self, request: Request) -> Result<Answer, HttpError> {
        let url = request.url.clone();
        self.connect(request, url).await.map_err(|error| {
            if self.discretion == Discretion::Outcome {
                error.discreet()
            } else {
                error
            }
        })
    }

    async fn connect(&self, request: Request, url: Url) -> Result<Answer, HttpError> {
        self.check(&url).await?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (request, progress) = self.outgoing(request)?;
        let response = self.wait(request, &progress, &url).await?;
        Ok(Answer::new(response, url, self.idle, self.least_rate))
    }

    /// Names are checked again where the connection is made. Behind a proxy it is the proxy that
    /// connects, so the name is looked up here too; a name that only the proxy knows is left to the
    /// proxy.
    async fn check(&self, url: &Url) -> Result<(), HttpError> {
        let refuse = |cause| HttpError::Address {
            url: shown(url),
            cause,
        };
        self.addresses.check_url(url).map_err(refuse)?;
        if self.proxied
            && let Some(name) = url.domain()
            && let Err(error) = self.addresses.look_up(name).await
            && let Ok(cause) = error.downcast()
        {
            return Err(refuse(cause));
        }
        Ok(())
    }

    fn outgoing(&self, request: Request) -> Result<(reqwest::Request, Arc<AtomicU64>), HttpError> {
        let progress = Arc::new(AtomicU64::new(0));
        let url = request.url.clone();
        let builder = self
            .client
            .request(request.method, request.url)
            .headers(request.headers);
        let builder = match request.payload {
            Payload::Nothing => builder,
            Payload::Bytes(bytes) => builder.body(bytes),
            Payload::Stream(stream) => {
                let progress = Arc::clone(&progress);
                let counted = stream.inspect(move |_| _ = progress.fetch_add(1, Ordering::Relaxed));
                builder.body(Body::wrap_stream(counted))
            }
        };
        let request = builder
            .build()
            .map_err(|e| HttpError::from_library(e, &url, false))?;
        Ok((request, progress))
    }

    /// Waits for the head of the answer as long as the upload makes progress.
    async fn wait(
        &self,
        request: reqwest::Request,
        progress: &AtomicU64,
        url: &Url,
    ) -> Result<Response, HttpError> {
        let mut answer = std::pin::pin!(self.client.execute(request));
        let mut seen = 0;
        loop {
            if let Ok(outcome) = timeout(self.idle, &mut answer).await {
                return outcome.map_err(|e| HttpError::from_library(e, url, false));
            }
            let now = progress.load(Ordering::Relaxed);
            if now == seen {
                return Err(HttpError::Timeout {
                    url: shown(url),
                    wait: "answer",
                    seconds: self.idle.as_secs(),
                });
            }
            seen = now;
        }
    }
}

fn builder(options: &HttpOptions) -> Result<ClientBuilder, HttpError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("packgate/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .dns_resolver(GuardedResolver(options.addresses.clone()));
    let builder = match &options.extra_ca_pem {
        Some(pem) => builder.tls_certs_merge(certificates(pem)?),
        None => builder,
    };
    with_proxy(builder, options)
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, HttpError> {
    let certificates =
        Certificate::from_pem_bundle(pem).map_err(|e| setup("the extra certificates", &e))?;
    if certificates.is_empty() {
        return Err(HttpError::Setup {
            what: "the extra certificates".into(),
            cause: "there is no PEM certificate in them".into(),
        });
    }
    Ok(certificates)
}

fn with_proxy(builder: ClientBuilder, options: &HttpOptions) -> Result<ClientBuilder, HttpError> {
    match (&options.proxy, &options.addresses) {
        (Proxy::System, AddressPolicy::Any) => Ok(builder),
        (Proxy::System, AddressPolicy::Cluster { .. }) | (Proxy::Direct, _) => {
            Ok(builder.no_proxy())
        }
        (
            Proxy::Through {
                address,
                credentials,
                except,
            },
            addresses,
        ) => {
            addresses
                .check_url(address)
                .map_err(|cause| HttpError::Address {
                    url: shown(address),
                    cause,
                })?;
            let mut proxy =
                reqwest::Proxy::all(address.clone()).map_err(|e| setup("the proxy", &e))?;
            if let Some((user, password)) = credentials {
                proxy = proxy.basic_auth(user, password.expose());
            }
            Ok(builder
                .no_proxy()
                .proxy(proxy.no_proxy(NoProxy::from_string(except))))
        }
    }
}

fn setup(what: &str, error: &reqwest::Error) -> HttpError {
    HttpError::Setup {
        what: what.into(),
        cause: root_cause(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::class::{Classified, Reason},
        http::{PrivateAddresses, Redacted},
    };

    fn refusal(options: &HttpOptions) -> (Reason, String) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let error = HttpClient::new(options).expect_err("refused");
        (error.reason(), format!("{error} {error:?}"))
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        for pem in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let options = HttpOptions {
                extra_ca_pem: Some(Bytes::from(pem)),
                proxy: Proxy::Direct,
                ..HttpOptions::default()
            };
            assert_eq!(refusal(&options).0, Reason::InvalidSpec, "{pem}");
        }
    }

    #[test]
    fn a_proxy_obeys_the_address_policy() {
        let credentials = Some(("u".to_owned(), Redacted::new("hunter2".to_owned())));
        for address in [
            "http://169.254.169.254/",
            "http://127.0.0.1:3128/",
            "http://user:hunter2@10.0.0.1:3128/?hunter2",
        ] {
            let proxy = Proxy::Through {
                address: address.parse().expect(address),
                credentials: credentials.clone(),
                except: String::new(),
            };
            let addresses = AddressPolicy::Cluster {
                private: PrivateAddresses::Listed(Vec::new()),
            };
            let (reason, text) = refusal(&HttpOptions {
                proxy,
                addresses,
                ..HttpOptions::default()
            });
            assert_eq!(reason, Reason::AddressNotAllowed, "{address}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[tokio::test]
    async fn behind_a_proxy_names_are_looked_up_before_they_are_sent() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Nothing may be sent to it: a public address that nobody answers at (RFC 5737).
        let proxy = Proxy::Through {
            address: "http://192.0.2.1:3128".parse().expect("valid"),
            credentials: None,
            except: String::new(),
        };
        let addresses = AddressPolicy::Cluster {
            private: PrivateAddresses::Allowed,
        };
        let client = HttpClient::new(&HttpOptions {
            proxy,
            addresses,
            ..HttpOptions::default()
        })
        .expect("a client");
        for url in [
            "http://localhost/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            let error = client
                .send(Request::get(url.parse().expect(url)))
                .await
                .expect_err(url);
            assert_eq!(error.reason(), Reason::AddressNotAllowed, "{error}");
        }
        assert_eq!(client.requests(), 0);
    }
}
