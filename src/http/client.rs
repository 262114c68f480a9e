//! The HTTP client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{Body, ClientBuilder, NoProxy};
use url::Url;

use super::{
    AddressPolicy, ConnectionErrorDetail, ErrorAdvice, HttpError, HttpOptions, HttpProxy,
    HttpRequest, HttpResponse, HttpResponseHead, HttpRetryPolicy, MinTransferRate,
    address_policy::AddressFilteringResolver,
    deadline,
    error::root_cause,
    redact::redact_url,
    redirect,
    request::{HttpRepetition, HttpRequestBody},
    retry::{RateLimitBackoff, RetryBackoff},
    tls::client_config,
    upload_progress::UploadProgress,
};

/// The maximum number of redirects of one request. Enough for a registry that redirects to a store
/// behind a content delivery network.
pub const MAX_REDIRECTS: usize = 5;
/// How much longer a server may take to answer after a whole upload, which it stores first.
const SLOW_ANSWER: u32 = 5;

/// Sends requests under the rules of this module. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    addresses: AddressPolicy,
    proxied: bool,
    idle: Duration,
    response_timeout: Duration,
    min_transfer_rate: Option<MinTransferRate>,
    connection_error_detail: ConnectionErrorDetail,
    error_advice: ErrorAdvice,
    retries: HttpRetryPolicy,
    requests: Arc<AtomicU64>,
}

impl HttpClient {
    /// A client.
    ///
    /// Errors: [`HttpError::Setup`] for invalid certificates or an invalid proxy,
    /// [`HttpError::Address`] for a proxy whose address is not allowed.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let client = client_builder(options)?
            .build()
            .map_err(|e| setup_error("the HTTP client", &e))?;
        Ok(Self {
            client,
            addresses: options.addresses.clone(),
            proxied: matches!(options.proxy, HttpProxy::Through { .. }),
            idle: options.idle_timeout,
            response_timeout: options.response_timeout,
            min_transfer_rate: options.min_transfer_rate,
            connection_error_detail: options.connection_error_detail,
            error_advice: options.error_advice,
            retries: options.retries,
            requests: Arc::default(),
        })
    }

    /// The same client with a counter of its own.
    #[must_use]
    pub fn with_own_counter(&self) -> Self {
        Self {
            requests: Arc::default(),
            ..self.clone()
        }
    }

    /// The number of requests sent, with every retry and redirect, by this client and its clones.
    pub fn request_count(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Which ways out errors name.
    pub const fn error_advice(&self) -> ErrorAdvice {
        self.error_advice
    }

    /// Sends a request, follows redirects and retries where that is allowed. The response may have
    /// any status.
    pub async fn send_request(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // The library's futures have kilobytes; boxed, they do not enlarge those of callers.
        let outcome = Box::pin(self.follow_redirects(request)).await;
        // After retries: they depend on the cause.
        outcome.map_err(|error| {
            let error = error.with_advice(self.error_advice);
            if self.connection_error_detail == ConnectionErrorDetail::OutcomeOnly {
                error.without_network_details()
            } else {
                error
            }
        })
    }

    async fn follow_redirects(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        for _ in 0..=MAX_REDIRECTS {
            if request.returns_redirects {
                return self.send_with_retries(request).await;
            }
            let again = request.try_clone();
            let answer = self.send_with_retries(request).await?;
            match redirect::redirected_request(again, answer.head())? {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        Err(HttpError::Redirect {
            url: "the request".into(),
            cause: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    /// Sends a request and reads the whole response, at most `limit` bytes, within the timeout of
    /// small responses.
    pub async fn fetch_body(
        &self,
        request: HttpRequest,
        limit: usize,
    ) -> Result<(HttpResponseHead, Bytes), HttpError> {
        let url = request.url.clone();
        let both = async {
            let answer = self.send_request(request).await?;
            Ok((answer.head().clone(), answer.read_body(limit).await?))
        };
        self.with_response_timeout(&url, both).await?
    }

    /// Limits the time of a small response, from the request to its last byte.
    pub async fn with_response_timeout<T>(
        &self,
        url: &Url,
        work: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        deadline::limit_response_time(url, self.response_timeout, work).await
    }

    async fn send_with_retries(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut waits = RetryBackoff::new(&self.retries);
        loop {
            let again = request
                .try_clone()
                .filter(|again| again.repetition != HttpRepetition::Never);
            let Some(next) = again else {
                return self.send_once(request).await;
            };
            let outcome = self.send_once(request).await;
            let Some(wait) = waits.wait_after(&outcome, next.repetition == HttpRepetition::Always)
            else {
                return outcome;
            };
            deadline::wait_before_retry(next.url.host_str().unwrap_or_default(), wait).await;
            request = next;
        }
    }

    /// The waits for a server that limits the rate of requests which this client cannot repeat
    /// itself.
    pub const fn rate_limit_backoff(&self) -> RateLimitBackoff {
        RateLimitBackoff::new(&self.retries)
    }

    async fn send_once(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = request.url.clone();
        self.check_destination(&url).await?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let idle = if request.slow_answer {
            self.idle * SLOW_ANSWER
        } else {
            self.idle
        };
        let (request, progress) = self.build_request(request)?;
        let answer = self.client.execute(request);
        let response = progress.await_answer(answer, idle, &url).await?;
        Ok(HttpResponse::new(
            response,
            url,
            self.idle,
            self.min_transfer_rate,
        ))
    }

    /// Names are checked again when a connection is made. A proxy makes its own connections, so the
    /// name is resolved here too; a name that only the proxy can resolve is left to the proxy.
    async fn check_destination(&self, url: &Url) -> Result<(), HttpError> {
        let refuse = |cause| HttpError::Address {
            url: redact_url(url),
            cause,
        };
        self.addresses.check_url(url).map_err(refuse)?;
        if self.proxied
            && let Some(name) = url.domain()
            && let Err(error) = self.addresses.resolve_host(name).await
            && let Ok(cause) = error.downcast()
        {
            return Err(refuse(cause));
        }
        Ok(())
    }

    fn build_request(
        &self,
        request: HttpRequest,
    ) -> Result<(reqwest::Request, Arc<UploadProgress>), HttpError> {
        let progress = Arc::new(UploadProgress::begin());
        let url = request.url.clone();
        let builder = self
            .client
            .request(request.method, request.url)
            .headers(request.headers);
        let builder = match request.payload {
            HttpRequestBody::Nothing => builder,
            HttpRequestBody::Bytes(bytes) => builder.body(bytes),
            HttpRequestBody::Stream(stream) => {
                let progress = Arc::clone(&progress);
                let watched = stream.inspect(move |_| progress.advance());
                builder.body(Body::wrap_stream(watched))
            }
        };
        let request = builder
            .build()
            .map_err(|e| HttpError::from_reqwest(e, &url, false))?;
        Ok((request, progress))
    }
}

fn client_builder(options: &HttpOptions) -> Result<ClientBuilder, HttpError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("packgate/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .dns_resolver(AddressFilteringResolver(options.addresses.clone()));
    let identity = options.client_identity.as_ref();
    let tls = client_config(
        options.extra_ca_pem.as_deref(),
        identity.map(|pem| &pem.expose()[..]),
    )?;
    with_proxy(builder.tls_backend_preconfigured(tls), options)
}

fn with_proxy(builder: ClientBuilder, options: &HttpOptions) -> Result<ClientBuilder, HttpError> {
    match (&options.proxy, &options.addresses) {
        (HttpProxy::System, AddressPolicy::Any) => Ok(builder),
        (HttpProxy::System, AddressPolicy::Cluster { .. }) | (HttpProxy::Direct, _) => {
            Ok(builder.no_proxy())
        }
        (
            HttpProxy::Through {
                address,
                credentials,
                except,
            },
            addresses,
        ) => {
            addresses
                .check_url(address)
                .map_err(|cause| HttpError::Address {
                    url: redact_url(address),
                    cause,
                })?;
            let mut proxy =
                reqwest::Proxy::all(address.clone()).map_err(|e| setup_error("the proxy", &e))?;
            if let Some((user, password)) = credentials {
                proxy = proxy.basic_auth(user, password.expose());
            }
            Ok(builder
                .no_proxy()
                .proxy(proxy.no_proxy(NoProxy::from_string(except))))
        }
    }
}

fn setup_error(what: &str, error: &reqwest::Error) -> HttpError {
    HttpError::Setup {
        what: what.into(),
        cause: root_cause(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::reason::{ClassifiedError, Reason},
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
                proxy: HttpProxy::Direct,
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
            let proxy = HttpProxy::Through {
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
        // Nothing may be sent to it: a public address without a host (RFC 5737).
        let proxy = HttpProxy::Through {
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
                .send_request(HttpRequest::get(url.parse().expect(url)))
                .await
                .expect_err(url);
            assert_eq!(error.reason(), Reason::AddressNotAllowed, "{error}");
        }
        assert_eq!(client.request_count(), 0);
    }
}
