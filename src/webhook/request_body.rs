//! Reads the body of a review, within a memory budget that is reserved first.
//!
//! Any client that reaches the port can send bodies, and the API server itself sends what any user
//! of the cluster writes. So memory is reserved before bytes are read: the `Content-Length`, or
//! without one the maximum size. Small reviews, which nearly all are, have a budget of their own,
//! so that large ones never block them; no client address can reserve more than its part of either.
//! A body must arrive within its deadline, or its reservation is released.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::timeout,
};

use super::review_request::MAX_REVIEW;
use crate::listener::PeerAddress;

/// The maximum size in bytes of a small body: enough for a hundred containers.
const SMALL_BODY_BYTES: usize = 64 << 10;
/// The minimum reservation of a body: a review costs more than its bytes.
const MIN_RESERVED_BYTES: usize = 4 << 10;

/// How many bytes are read concurrently, and the timeouts.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes of small bodies at the same time: in total, and from one address.
    pub small: (usize, usize),
    /// Bytes of large bodies at the same time: in total, and from one address.
    pub large: (usize, usize),
    /// Concurrent reviews, from the first byte to the response.
    pub reviews: usize,
    /// How long a body waits for its reservation.
    pub wait: Duration,
    /// How long it may then take to arrive.
    pub arrive: Duration,
}

impl BodyLimits {
    /// These fit into the chart's memory limit, with everything else.
    pub(super) const DEFAULT: Self = Self {
        small: (8 << 20, 4 << 20),
        large: (16 << 20, 12 << 20),
        reviews: 512,
        wait: Duration::from_secs(2),
        arrive: Duration::from_secs(5),
    };
}

/// Reads bodies within limits.
pub(super) struct BodyReader {
    small: BodyMemoryPool,
    large: BodyMemoryPool,
    reviews: Arc<Semaphore>,
    bounds: BodyLimits,
}

/// A body. Its bytes are reserved until `ReceivedBody::weight` is dropped.
pub(super) struct ReceivedBody {
    /// The body.
    pub bytes: Bytes,
    /// Its reservation in the memory budget.
    pub weight: BodyMemoryPermit,
    /// Its slot of the concurrent reviews.
    pub review: OwnedSemaphorePermit,
}

/// A reservation in the memory budget, until it is dropped.
pub(super) struct BodyMemoryPermit {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Why a body was rejected. None of these is a verdict: the API server treats all of them as
/// failures of the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyRejection {
    /// The content type is not JSON.
    #[error("the content type must be application/json")]
    ContentType,
    /// It is larger than any review.
    #[error("the request body is larger than the limit of {MAX_REVIEW} bytes")]
    TooLarge,
    /// It did not arrive within the deadline.
    #[error("timed out reading the request body")]
    Slow,
    /// The connection failed.
    #[error("the connection closed before the request body was complete")]
    Broken,
    /// The memory budget is used up by other requests.
    #[error("too many concurrent admission reviews, try again")]
    Busy,
}

impl IntoResponse for BodyRejection {
    fn into_response(self) -> Response {
        let status = match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = (status, self.to_string()).into_response();
        if self == Self::Busy {
            // With `Retry-After` the API server retries by itself, within its own timeout.
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl BodyReader {
    /// A reader with these limits.
    pub(super) fn new(bounds: BodyLimits) -> Self {
        Self {
            small: BodyMemoryPool::new(bounds.small),
            large: BodyMemoryPool::new(bounds.large),
            reviews: Arc::new(Semaphore::new(bounds.reviews)),
            bounds,
        }
    }

    /// Reads the body of a review.
    pub(super) async fn receive_body(
        &self,
        request: Request,
    ) -> Result<ReceivedBody, BodyRejection> {
        if !is_json(request.headers()) {
            return Err(BodyRejection::ContentType);
        }
        let address = request
            .extensions()
            .get::<PeerAddress>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
        let body = request.into_body();
        let announced = body.size_hint().exact();
        let most = announced
            .map_or(Some(MAX_REVIEW), |bytes| usize::try_from(bytes).ok())
            .filter(|most| *most <= MAX_REVIEW);
        let most = most.ok_or(BodyRejection::TooLarge)?;
        let review = Arc::clone(&self.reviews)
            .try_acquire_owned()
            .map_err(|_: TryAcquireError| BodyRejection::Busy)?;
        let lane = if most <= SMALL_BODY_BYTES {
            &self.small
        } else {
            &self.large
        };
        let weight = timeout(
            self.bounds.wait,
            lane.reserve_bytes(address, most.max(MIN_RESERVED_BYTES)),
        )
        .await
        .map_err(|_| BodyRejection::Busy)?
        .ok_or(BodyRejection::Busy)?;
        let bytes = timeout(self.bounds.arrive, collect_body(body, most))
            .await
            .map_err(|_| BodyRejection::Slow)??;
        Ok(ReceivedBody {
            bytes,
            weight,
            review,
        })
    }
}

/// Parameters, such as a character set, do not matter: JSON is UTF-8 (RFC 8259).
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

async fn collect_body(body: Body, most: usize) -> Result<Bytes, BodyRejection> {
    let mut read = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BodyRejection::Broken)?;
        if read.len() + chunk.len() > most {
            return Err(BodyRejection::TooLarge);
        }
        if read.capacity() < read.len() + chunk.len() {
            // As much as was received so far, and never more than was reserved.
            read.reserve_exact(
                (read.len() + chunk.len())
                    .max(SMALL_BODY_BYTES)
                    .min(most - read.len()),
            );
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

/// Bytes shared by client addresses.
struct BodyMemoryPool {
    all: Arc<Semaphore>,
    share: usize,
    shares_by_address: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// The number of addresses that are remembered before those without a body are dropped.
const MAX_TRACKED_ADDRESSES: usize = 256;

impl BodyMemoryPool {
    fn new((all, share): (usize, usize)) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            share,
            shares_by_address: Mutex::default(),
        }
    }

    /// Waits for the budget of the address first: a client that has used it up waits only for
    /// itself, and takes no place in the shared queue.
    async fn reserve_bytes(&self, address: IpAddr, bytes: usize) -> Option<BodyMemoryPermit> {
        let bytes = u32::try_from(bytes).ok()?;
        let own = self
            .address_share(address)
            .acquire_many_owned(bytes)
            .await
            .ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(bytes).await.ok()?;
        Some(BodyMemoryPermit {
            _own: own,
            _all: all,
        })
    }

    fn address_share(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut of = self
            .shares_by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if of.len() >= MAX_TRACKED_ADDRESSES {
            of.retain(|_, own| Arc::strong_count(own) > 1);
        }
        Arc::clone(
            of.entry(address)
                .or_insert_with(|| Arc::new(Semaphore::new(self.share))),
        )
    }
}
