//! Every limit on untrusted input: its unit, its default, and the attack that it stops. For users:
//! docs/spec/limits.md.

/// Limits on data from a registry, a file or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputLimits {
    /// Bytes of one manifest or index. Stops a registry from filling our memory with one response.
    pub manifest_bytes: usize,
    /// Bytes of one Sigstore bundle. Provenance of a lock with 10,000 artifacts fits; a gigabyte of
    /// padding does not.
    pub sigstore_bundle_bytes: usize,
    /// Bytes of one image configuration. Stops the same as [`Self::manifest_bytes`].
    pub config_bytes: usize,
    /// Descriptors read from a referrers list. Stops endless lists and endless `Link` pages.
    pub referrers_listed: usize,
    /// Referrers whose manifest is fetched and opened. Bounds the requests that one hostile subject
    /// costs.
    pub referrers_opened: usize,
    /// Bytes of evidence that are read for one request: manifests, Sigstore bundles, payloads.
    /// Stops one hostile subject from costing a gigabyte.
    pub evidence_bytes: u64,
    /// Bytes of evidence of one request that are in memory at once. Stops many bundles, each within
    /// its limit, from filling it together.
    pub evidence_held_bytes: usize,
    /// Approximate bytes of memory of the verified statements of one request. Stops JSON that is
    /// small as text and large in memory.
    pub statement_bytes: usize,
    /// Signature checks for one request, beyond the first of each candidate. Stops many bundles
    /// times many keys.
    pub signature_checks: usize,
    /// Transparency log entries in one Sigstore bundle. Stops amplification: 2,000 copies of one
    /// entry cost over a second of CPU.
    pub log_entries: usize,
    /// RFC 3161 timestamps in one Sigstore bundle. Stops amplification by certificate chains.
    pub timestamps: usize,
    /// Subjects in one statement. Stops statements about everything.
    pub subjects: usize,
    /// Bytes of the certificates of a private CA. Stops files that fill the webhook's memory.
    pub authority_bytes: usize,
    /// Certificates of a private CA. Stops path building among many certificates of one name.
    pub authority_certificates: usize,
    /// Bytes of its revocation lists. Stops files that fill the webhook's memory.
    pub revocation_bytes: usize,
    /// Its revocation lists. Stops one list for each of many invented certificates.
    pub revocation_lists: usize,
    /// Levels of nesting in JSON. Stops stack exhaustion.
    pub json_depth: usize,
    /// Bytes of a lockfile: 300 for each of [`Self::artifacts`]. Stops a document that fills memory.
    pub lock_bytes: usize,
    /// Artifacts in a lockfile. Stops bundles too large to list or unpack.
    pub artifacts: usize,
    /// Platforms of a lockfile. Stops an index too large to be read.
    pub platforms: usize,
    /// Artifacts of a lockfile, each counted once for each platform that it is packed for. Stops a
    /// small lock that makes a thousand times its size.
    pub platform_artifacts: usize,
    /// Bytes of one artifact. Stops downloads without an end.
    pub artifact_bytes: u64,
    /// Entries that one unpacked archive may have. Stops a million empty files.
    pub unpack_entries: u64,
    /// Bytes that one unpacked archive may have. Stops decompression bombs.
    pub unpack_bytes: u64,
}

impl InputLimits {
    /// The defaults of all of packgate's interfaces.
    pub const DEFAULT: Self = Self {
        manifest_bytes: 4 << 20,
        sigstore_bundle_bytes: 4 << 20,
        config_bytes: 4 << 20,
        referrers_listed: 1_000,
        referrers_opened: 256,
        evidence_bytes: 64 << 20,
        evidence_held_bytes: 8 << 20,
        statement_bytes: 24 << 20,
        signature_checks: 1_024,
        log_entries: 4,
        timestamps: 4,
        subjects: 64,
        authority_bytes: 1 << 20,
        authority_certificates: 64,
        revocation_bytes: 4 << 20,
        revocation_lists: 64,
        json_depth: 32,
        lock_bytes: 3 << 20,
        artifacts: 10_000,
        platforms: 64,
        platform_artifacts: 100_000,
        artifact_bytes: 1 << 40,
        unpack_entries: 100_000,
        unpack_bytes: 64 << 30,
    };
}

impl Default for InputLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
