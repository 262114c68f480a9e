//! Prometheus metrics of the webhook.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::review_response::EvaluatedImage;
use crate::service::fair_queue::ExhaustedQuota;

/// The metrics of the webhook.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    reviews: Family<ReviewLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    caches: Family<CacheLabels, Counter>,
    expiry: Family<ExpiryLabels, Gauge>,
    waiting: Family<WaitingLabels, Gauge>,
}

/// Counts one image as waiting for its evaluation until it is dropped.
pub(super) struct WaitingImageGuard(Gauge);

impl Drop for WaitingImageGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReviewLabels {
    r#use: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    r#use: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExpiryLabels {
    kind: &'static str,
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WaitingLabels {
    r#for: &'static str,
}

fn duration_histogram() -> Histogram {
    Histogram::new([
        0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl WebhookMetrics {
    /// Registers all metrics in `registry`, with the prefix `packgate`.
    pub fn new(registry: &mut Registry) -> Self {
        let new: fn() -> Histogram = duration_histogram;
        let metrics = Self {
            reviews: Family::default(),
            durations: Family::new_with_constructor(new),
            caches: Family::default(),
            expiry: Family::default(),
            waiting: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("packgate");
        registry.register(
            "admission_reviews",
            "Evaluated image uses by verdict, independent of the policies' modes",
            metrics.reviews.clone(),
        );
        registry.register(
            "admission_duration_seconds",
            "Time from a review's first byte to the verdict on an image use",
            metrics.durations.clone(),
        );
        registry.register(
            "cache_requests",
            "Lookups in the verdict cache, by result",
            metrics.caches.clone(),
        );
        registry.register(
            "expiry_timestamp_seconds",
            "Expiry time, as a Unix timestamp in seconds",
            metrics.expiry.clone(),
        );
        registry.register(
            "admission_waiting",
            "Images queued for verification, by the limit that they wait for",
            metrics.waiting.clone(),
        );
        metrics
    }

    /// Counts one verdict and its duration.
    pub(super) fn record_verdict(&self, image: &EvaluatedImage, took: Duration) {
        let report = &image.report;
        let (used_as, outcome) = (report.used_as().as_str(), report.outcome().as_str());
        let reason = report
            .denials()
            .first()
            .map_or("", |denial| denial.reason.as_str());
        self.reviews
            .get_or_create(&ReviewLabels {
                r#use: used_as,
                outcome,
                reason,
            })
            .inc();
        self.durations
            .get_or_create(&DurationLabels {
                r#use: used_as,
                outcome,
            })
            .observe(took.as_secs_f64());
    }

    /// Counts a lookup in a cache.
    pub(super) fn count_cache_request(&self, cache: &'static str, result: &'static str) {
        self.caches
            .get_or_create(&CacheLabels { cache, result })
            .inc();
    }

    /// Counts an image that waits for its evaluation.
    pub(super) fn track_waiting_image(&self, taken: ExhaustedQuota) -> WaitingImageGuard {
        let r#for = match taken {
            ExhaustedQuota::Namespace => "namespace",
            ExhaustedQuota::Host => "registry",
            ExhaustedQuota::All => "all",
        };
        let gauge = self.waiting.get_or_create_owned(&WaitingLabels { r#for });
        gauge.inc();
        WaitingImageGuard(gauge)
    }

    /// Sets the expiry of the serving certificate, in seconds since 1970.
    pub(super) fn set_certificate_expiry(&self, seconds: i64) {
        self.expiry
            .get_or_create(&ExpiryLabels {
                kind: "Certificate",
                name: "packgate-webhook-tls",
            })
            .set(seconds);
    }
}
