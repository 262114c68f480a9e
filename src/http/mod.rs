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
pub mod error;
mod location;
pub mod options;
pub mod redact;
mod redirect;
pub mod request;
mod response;
mod retry;
mod transfer_rate;

pub use address_policy::{AddressPolicy, PrivateAddresses};
pub use client::HttpClient;
pub use error::HttpError;
pub use options::{ConnectionErrorDetail, ErrorAdvice, HttpOptions, HttpProxy, HttpRetryPolicy};
pub use redact::Redacted;
pub use request::HttpRequest;
pub use reqwest::{Method, StatusCode, header};
pub use response::{HttpResponse, HttpResponseHead};
pub use transfer_rate::MinTransferRate;
