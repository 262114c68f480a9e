//! The verify matrix: every combination of material and time evidence is valid, and with every
//! single fault it is refused for exactly one reason.
//!
//! The tables are `FAULTS` of the modules below. A fault without effect is a row too:
//! [`Expected::Holds`].

mod blob;
mod bytes;
mod certificate;
mod document;
mod envelope;
mod log;
mod proof;
mod time;

use std::sync::OnceLock;

use super::*;
use crate::core::verify::testing::sigstore::{
    Algorithm, Key, Kind, LOGGED, Leaf, Logging, Material, Recipe, STAMPED, Sigstore, Stamp,
};

/// The verification material of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Key(Algorithm),
    Certificate,
}

/// The evidence of the signing time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Unsaid,
    Stamp,
    RekorV1,
    RekorV1AndStamp,
    RekorV2AndStamp,
}

/// One column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    by: By,
    when: When,
}

impl Shape {
    fn all() -> Vec<Self> {
        let keys = Algorithm::ALL.iter().flat_map(|algorithm| {
            let by = By::Key(*algorithm);
            [
                When::Unsaid,
                When::Stamp,
                When::RekorV1,
                When::RekorV1AndStamp,
                When::RekorV2AndStamp,
            ]
            .map(|when| Self { by, when })
        });
        let certificates =
            [When::RekorV1, When::RekorV1AndStamp, When::RekorV2AndStamp].map(|when| Self {
                by: By::Certificate,
                when,
            });
        keys.chain(certificates).collect()
    }

    fn keyed(self) -> bool {
        self.by != By::Certificate
    }

    fn keyless(self) -> bool {
        !self.keyed()
    }

    const fn logged(self) -> bool {
        self.v1() || self.v2()
    }

    const fn v1(self) -> bool {
        matches!(self.when, When::RekorV1 | When::RekorV1AndStamp)
    }

    const fn v2(self) -> bool {
        matches!(self.when, When::RekorV2AndStamp)
    }

    const fn only_v1(self) -> bool {
        matches!(self.when, When::RekorV1)
    }

    const fn stamped(self) -> bool {
        matches!(
            self.when,
            When::Stamp | When::RekorV1AndStamp | When::RekorV2AndStamp
        )
    }

    const fn v1_and_stamped(self) -> bool {
        matches!(self.when, When::RekorV1AndStamp)
    }

    /// True if a trust root can verify its time evidence. `sigstore-verify` does not support P-521,
    /// and of Rekor v2 only P-256: time evidence of such keys is not verified with a trust root
    /// here.
    const fn vouchable(self) -> bool {
        match self.by {
            By::Certificate | By::Key(Algorithm::P256) => true,
            By::Key(Algorithm::P521) => false,
            By::Key(_) => !self.v2(),
        }
    }

    const fn any(self) -> bool {
        let _ = self;
        true
    }
}

/// The expected result of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Holds,
    /// Verified by the key alone, and no time evidence is left.
    ByKeyAlone,
    /// Refused; without a trust root the key alone may still verify it.
    Refused(Reason),
}

/// The part of a bundle that a fault is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The document, the envelope, the certificate.
    Always,
    /// The log entries and timestamps.
    Evidence,
}

/// A change, before or after signing.
enum Change {
    /// Changes what is signed.
    Make(fn(&mut Case)),
    /// Changes the bundle.
    Bundle(fn(&mut Value)),
    /// Changes the bundle, and signs it again with any key.
    Forge(fn(&mut Value, &Case)),
    /// Changes the bundle's text.
    Text(fn(&str) -> Vec<u8>),
    /// Changes the trust root.
    Root(fn(&mut Value)),
}

/// One row of the matrix.
struct Fault {
    name: &'static str,
    part: Part,
    applies: fn(Shape) -> bool,
    expected: Expected,
    /// The expected result for bundles signed with a key, if it differs.
    keyed: Option<Expected>,
    change: Change,
}

const fn row(
    name: &'static str,
    part: Part,
    applies: fn(Shape) -> bool,
    expected: Expected,
    change: Change,
) -> Fault {
    Fault {
        name,
        part,
        applies,
        expected,
        keyed: None,
        change,
    }
}

impl Fault {
    /// Sets another expected result for bundles signed with a key.
    const fn keyed(mut self, expected: Expected) -> Self {
        self.keyed = Some(expected);
        self
    }

    fn expected(&self, shape: Shape) -> Expected {
        self.keyed
            .filter(|_| shape.keyed())
            .unwrap_or(self.expected)
    }

    fn applies(&self, shape: Shape) -> bool {
        (self.applies)(shape) && (self.part == Part::Always || shape.vouchable())
    }
}

/// One cell: all inputs of a bundle and its trust root.
#[derive(Clone)]
struct Case {
    sigstore: Sigstore,
    recipe: Recipe,
    /// The keys that the verifier has.
    keys: Vec<Key>,
    /// True if the trust root verifies signatures by keys.
    vouching: bool,
}

impl Case {
    fn new(shape: Shape) -> Self {
        static SIGSTORE: OnceLock<Sigstore> = OnceLock::new();
        let key = signing_key(shape.by);
        let mut recipe = Recipe::new(&key, statement().to_string());
        if shape.keyless() {
            recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
        }
        recipe.logging = match shape.when {
            When::RekorV1 | When::RekorV1AndStamp => Some(Logging::new(Kind::Dsse001, LOGGED)),
            When::RekorV2AndStamp => Some(Logging::new(Kind::HashedRekord002, LOGGED)),
            When::Unsaid | When::Stamp => None,
        };
        recipe.stamps = vec![Stamp::at(STAMPED); usize::from(shape.stamped())];
        let keys = if shape.keyed() { vec![key] } else { Vec::new() };
        Self {
            sigstore: SIGSTORE.get_or_init(Sigstore::new).clone(),
            recipe,
            keys,
            vouching: shape.vouchable(),
        }
    }

    fn time(&self, shape: Shape) -> SigningTime {
        let known = match shape.when {
            _ if !self.vouching => None,
            When::Unsaid => None,
            When::RekorV1 => self.recipe.logging.as_ref().map(|logging| logging.time),
            When::Stamp | When::RekorV1AndStamp | When::RekorV2AndStamp => {
                self.recipe.stamps.first().map(|stamp| stamp.time)
            }
        };
        known.map_or(SigningTime::Unknown, |seconds| {
            SigningTime::Known(Timestamp::from_second(seconds).expect("a time"))
        })
    }

    fn signer(&self, shape: Shape) -> SignerIdentity {
        use crate::core::verify::testing::sigstore::{ISSUER, WORKFLOW};
        match shape.by {
            By::Key(_) => SignerIdentity::Key {
                fingerprint: Digest::of_bytes(&self.recipe.key.spki()),
            },
            By::Certificate => SignerIdentity::Identity {
                san: WORKFLOW.into(),
                issuer: ISSUER.into(),
            },
        }
    }

    /// Makes the bundle and the trust root with `change`, and verifies.
    fn judge(self, change: &Change) -> VerificationFindings {
        let plain = self.recipe.bundle(&self.sigstore);
        self.judge_from(&plain, change)
    }

    /// The same from `plain`, the unchanged bundle.
    fn judge_from(mut self, plain: &Value, change: &Change) -> VerificationFindings {
        let mut bundle = plain.clone();
        let mut root = self.sigstore.trusted_root();
        match change {
            Change::Make(make) => {
                make(&mut self);
                bundle = self.recipe.bundle(&self.sigstore);
                root = self.sigstore.trusted_root();
            }
            Change::Bundle(edit) => edit(&mut bundle),
            Change::Forge(edit) => edit(&mut bundle, &self),
            Change::Root(edit) => edit(&mut root),
            Change::Text(_) => (),
        }
        let text = bundle.to_string();
        let content = if let Change::Text(edit) = change {
            edit(&text)
        } else {
            text.into_bytes()
        };
        judge(&self.keys, &root, self.vouching, content)
    }
}

/// Verifies a bundle about [`subject`] with these keys and this trust root.
fn judge(keys: &[Key], root: &Value, vouching: bool, content: Vec<u8>) -> VerificationFindings {
    let keys = keys
        .iter()
        .map(|key| VerificationKey::from_pem(&key.pem()).expect("a public key"))
        .collect();
    let root = parsed(root);
    let trust = TrustedMaterial {
        keys,
        key_trust_roots: if vouching {
            vec![root.clone()]
        } else {
            Vec::new()
        },
        roots: vec![root],
        ..TrustedMaterial::default()
    };
    verify_evidence(
        &subject(),
        &evidence(vec![with_content(&subject(), content)]),
        &trust,
        &InputLimits::DEFAULT,
    )
}

/// Most cases have the same trust root: the first one is cached.
fn parsed(root: &Value) -> Arc<TrustRoot> {
    static FIRST: OnceLock<(Value, Arc<TrustRoot>)> = OnceLock::new();
    let parse = || {
        Arc::new(
            TrustRoot::parse(root.to_string().as_bytes(), &InputLimits::DEFAULT)
                .expect("a trust root"),
        )
    };
    let (first, kept) = FIRST.get_or_init(|| (root.clone(), parse()));
    if root == first { kept.clone() } else { parse() }
}

/// One key of each algorithm for all cases.
fn signing_key(by: By) -> Key {
    static KEYS: [OnceLock<Key>; 8] = [const { OnceLock::new() }; 8];
    let (slot, algorithm) = match by {
        By::Key(algorithm) => (
            Algorithm::ALL
                .iter()
                .position(|known| *known == algorithm)
                .expect("listed"),
            algorithm,
        ),
        By::Certificate => (7, Algorithm::P256),
    };
    KEYS[slot].get_or_init(|| Key::new(algorithm)).clone()
}

fn statement() -> Value {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [
        {"name": "r.example.com/app", "digest": {"sha256": subject().hex_digits()}},
    ],
        "predicateType": COSIGN_SIGN, "predicate": {"note": "the predicate"}})
}

fn material(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]
}

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

fn remove(value: &mut Value, key: &str) -> Value {
    value
        .as_object_mut()
        .expect("an object")
        .remove(key)
        .expect(key)
}

/// The value, in base64, with the last bit of its last byte inverted.
fn flip(value: &mut Value) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut bytes = STANDARD
        .decode(value.as_str().expect("text"))
        .expect("base64");
    *bytes.last_mut().expect("bytes") ^= 1;
    *value = STANDARD.encode(bytes).into();
}

fn faults() -> impl Iterator<Item = &'static Fault> {
    [
        envelope::FAULTS,
        document::FAULTS,
        certificate::FAULTS,
        log::FAULTS,
        proof::FAULTS,
        time::FAULTS,
    ]
    .into_iter()
    .flatten()
}

/// The statement with the strongest evidence, and the result of the bundle.
fn outcome(
    findings: &VerificationFindings,
    shape: Shape,
) -> (Option<&Verified<Statement>>, Expected) {
    let best = findings.verified.last();
    let refused = if best.is_some() {
        findings.rejected.first()
    } else {
        findings.rejected.last()
    };
    let is = match (best, refused) {
        (Some(best), None)
            if shape.keyed()
                && best.time_evidence() == TimeEvidenceStatus::Absent
                && shape.when != When::Unsaid =>
        {
            Expected::ByKeyAlone
        }
        (Some(_), None) => Expected::Holds,
        (_, Some(rejected)) => Expected::Refused(rejected.reason),
        (None, None) => panic!("one candidate, at least one answer"),
    };
    assert!(
        findings.verified.len() <= 2
            && (shape.keyed() || findings.verified.len() + findings.rejected.len() == 1),
        "{findings:?}"
    );
    (best, is)
}

#[test]
fn every_material_with_every_evidence_holds_and_says_who_and_when() {
    for shape in Shape::all() {
        let case = Case::new(shape);
        let (signer, time, vouching) = (case.signer(shape), case.time(shape), case.vouching);
        let findings = case.judge(&Change::Make(|_| ()));
        let (best, is) = outcome(&findings, shape);
        assert_eq!(is, Expected::Holds, "{shape:?}: {:?}", findings.rejected);
        let verified = best.expect("it holds");
        assert_eq!(
            (
                verified.signer(),
                verified.signing_time(),
                verified.subject()
            ),
            (&signer, time, &subject()),
            "{shape:?}"
        );
        assert_eq!(
            verified.trust_root().is_some(),
            shape.keyless() || (vouching && shape.when != When::Unsaid),
            "{shape:?}"
        );
        assert_eq!(
            verified.claim().predicate["note"],
            "the predicate",
            "{shape:?}"
        );
    }
}

/// Every row in every column where it applies. Prints their number.
#[test]
fn every_single_fault_has_its_one_reason() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for shape in Shape::all() {
        let case = Case::new(shape);
        let plain = case.recipe.bundle(&case.sigstore);
        for fault in faults().filter(|fault| fault.applies(shape)) {
            cases += 1;
            let findings = case.clone().judge_from(&plain, &fault.change);
            let (_, is) = outcome(&findings, shape);
            if is != fault.expected(shape) {
                let why = findings
                    .rejected
                    .first()
                    .map_or("", |rejected| rejected.message.as_str());
                wrong.push(format!(
                    "{shape:?}: {}: expected {:?}, is {is:?}: {why}",
                    fault.name,
                    fault.expected(shape)
                ));
            }
        }
    }
    println!("{cases} cases of {} faults", faults().count());
    assert!(
        wrong.is_empty(),
        "{} of {cases} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cases > 2_500, "only {cases} cases");
}

/// Without a trust root for a key's signatures the key alone counts, and no time evidence is used.
#[test]
fn without_a_trust_root_a_key_speaks_for_itself() {
    let key = By::Key(Algorithm::P256);
    for shape in Shape::all().into_iter().filter(|shape| shape.by == key) {
        let case = Case {
            vouching: false,
            ..Case::new(shape)
        };
        let plain = case.recipe.bundle(&case.sigstore);
        for fault in faults().filter(|fault| fault.part == Part::Evidence && fault.applies(shape)) {
            let findings = case.clone().judge_from(&plain, &fault.change);
            let [verified] = &findings.verified[..] else {
                panic!("{shape:?}: {}: {:?}", fault.name, findings.rejected)
            };
            assert_eq!(
                (
                    verified.signing_time(),
                    verified.trust_root(),
                    findings.rejected.len()
                ),
                (SigningTime::Unknown, None, 0),
                "{shape:?}: {}",
                fault.name
            );
            assert_ne!(
                verified.time_evidence(),
                TimeEvidenceStatus::Verified,
                "{shape:?}: {}",
                fault.name
            );
        }
    }
}

/// Evidence that the verifier does not support is refused where it is required, with a message.
#[test]
fn what_no_trust_root_can_vouch_for_is_refused_if_it_must() {
    for shape in Shape::all()
        .into_iter()
        .filter(|shape| !shape.vouchable() && shape.when != When::Unsaid)
    {
        let case = Case {
            vouching: true,
            ..Case::new(shape)
        };
        let findings = case.judge(&Change::Make(|_| ()));
        let (best, is) = outcome(&findings, shape);
        let reason = match (shape.by, shape.logged()) {
            (By::Key(Algorithm::P521), true) => Reason::InvalidInclusionProof,
            (By::Key(Algorithm::P521), false) => Reason::InvalidTimestamp,
            _ => Reason::MalformedEvidence,
        };
        assert_eq!(
            (is, best.map(Verified::signing_time)),
            (Expected::Refused(reason), Some(SigningTime::Unknown)),
            "{shape:?}"
        );
    }
}

#[test]
fn every_fault_has_a_name_of_its_own_and_applies_somewhere() {
    let mut names = std::collections::HashSet::new();
    for fault in faults() {
        assert!(names.insert(fault.name), "{} is there twice", fault.name);
        assert!(
            Shape::all().into_iter().any(|shape| fault.applies(shape)),
            "{} applies to nothing",
            fault.name
        );
    }
}
