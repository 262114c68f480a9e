//! EFFECT. The one place that makes HTTP clients.
//!
//! Every request of packgate goes through [`HttpClient`], so that these rules are in one place:
//!
//! - redirects are followed here, never by the library: at most five, never from `https` to `http`,
//!   and no credential and no body ever reaches another origin (scheme, host and port) than the one
//!   it was meant for;
//! - the address that a connection goes to is checked against the [`AddressPolicy`], for every name
//!   and every redirect;
//! - bodies are read up to a limit, every wait has a timeout, and retries are few and only for
//!   idempotent requests;
//! - user info, queries and credentials never appear in an error.
//!
//! What is *not* checked here: the content. The reader checks digests.

pub mod address_policy;
mod client;
mod deadline;
pub mod error;
mod location;
pub mod options;
pub mod redact;
mod redirect;
pub mod request;
mod response;
mod retry;
mod tls;
pub mod tls_fault;
mod transfer_rate;
mod upload_progress;

pub use address_policy::{AddressPolicy, PrivateAddresses};
pub use client::{HttpClient, MAX_REDIRECTS};
pub use deadline::wait_before_retry;
pub use error::HttpError;
pub use options::{ConnectionErrorDetail, ErrorAdvice, HttpOptions, HttpProxy, HttpRetryPolicy};
pub use redact::Redacted;
pub use redirect::redirect_target;
pub use request::HttpRequest;
pub use reqwest::{Method, StatusCode, header};
pub use response::{HttpResponse, HttpResponseHead};
pub use retry::RateLimitBackoff;
pub use tls_fault::{TlsFailure, TlsFault};
pub use transfer_rate::MinTransferRate;
