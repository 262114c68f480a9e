//! The verify matrix: every material × every evidence holds, and with every single fault it is refused for exactly one reason.
//!
//! The tables are `FAULTS` of the modules below. A fault that does not matter is a row too: [`Expected::Holds`].

mod bytes;
mod certificate;
mod document;
mod envelope;
mod log;
mod proof;
mod time;

use std::sync::OnceLock;

use super::*;
use crate::core::verify::testing::sigstore::{Algorithm, Key, Kind, LOGGED, Leaf, Logging, Material, Recipe, STAMPED, Sigstore, Stamp};

/// Are the log entries and timestamps of a bundle that was signed with a key looked at, and is its time known, when there is a trust root?
/// Not today (`keyed.rs`). Whoever changes that changes this.
const KEYED_EVIDENCE_COUNTS: bool = false;

/// With what a signature is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Key(Algorithm),
    Certificate,
}

/// What says when it was made.
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
            [When::Unsaid, When::Stamp, When::RekorV1, When::RekorV1AndStamp, When::RekorV2AndStamp].map(|when| Self { by, when })
        });
        let certificates = [When::RekorV1, When::RekorV1AndStamp, When::RekorV2AndStamp].map(|when| Self { by: By::Certificate, when });
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
        matches!(self.when, When::Stamp | When::RekorV1AndStamp | When::RekorV2AndStamp)
    }

    const fn v1_and_stamped(self) -> bool {
        matches!(self.when, When::RekorV1AndStamp)
    }

    const fn any(self) -> bool {
        let _ = self;
        true
    }
}

/// What becomes of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Holds,
    Refused(Reason),
}

/// Which part of a bundle a fault is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The document, the envelope, the certificate.
    Always,
    /// The log entries and timestamps.
    Evidence,
}

/// What is changed, in what is made or in what was made.
enum Change {
    /// Before anything is signed.
    Make(fn(&mut Case)),
    /// The bundle.
    Bundle(fn(&mut Value)),
    /// The bundle, by somebody who can sign as everybody.
    Forge(fn(&mut Value, &Case)),
    /// The bundle's text.
    Text(fn(&str) -> Vec<u8>),
    /// The trust root.
    Root(fn(&mut Value)),
}

/// One row of the matrix.
struct Fault {
    name: &'static str,
    part: Part,
    applies: fn(Shape) -> bool,
    expected: Expected,
    change: Change,
}

const fn row(name: &'static str, part: Part, applies: fn(Shape) -> bool, expected: Expected, change: Change) -> Fault {
    Fault { name, part, applies, expected, change }
}

impl Fault {
    const fn expected(&self, shape: Shape) -> Expected {
        match (self.part, shape.by) {
            (Part::Evidence, By::Key(_)) if !KEYED_EVIDENCE_COUNTS => Expected::Holds,
            _ => self.expected,
        }
    }
}

/// One cell: everything that a bundle and its trust root are made of.
#[derive(Clone)]
struct Case {
    sigstore: Sigstore,
    recipe: Recipe,
    /// The keys that the verifier has.
    keys: Vec<Key>,
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
        Self { sigstore: SIGSTORE.get_or_init(Sigstore::new).clone(), recipe, keys }
    }

    fn time(&self, shape: Shape) -> SignedAt {
        let known = match shape.when {
            _ if shape.keyed() && !KEYED_EVIDENCE_COUNTS => None,
            When::Unsaid => None,
            When::RekorV1 => self.recipe.logging.as_ref().map(|logging| logging.time),
            When::Stamp | When::RekorV1AndStamp | When::RekorV2AndStamp => self.recipe.stamps.first().map(|stamp| stamp.time),
        };
        known.map_or(SignedAt::Unknown, |seconds| SignedAt::Known(jiff::Timestamp::from_second(seconds).expect("a time")))
    }

    fn signer(&self, shape: Shape) -> Signer {
        use crate::core::verify::testing::sigstore::{ISSUER, WORKFLOW};
        match shape.by {
            By::Key(_) => Signer::Key { fingerprint: Digest::of(&self.recipe.key.spki()) },
            By::Certificate => Signer::Identity { san: WORKFLOW.into(), issuer: ISSUER.into() },
        }
    }

    /// Makes the bundle and the trust root with `change`, and judges.
    fn judge(self, change: &Change) -> Findings {
        let plain = self.recipe.bundle(&self.sigstore);
        self.judge_from(&plain, change)
    }

    /// The same from `plain`, the bundle before anything was changed.
    fn judge_from(mut self, plain: &Value, change: &Change) -> Findings {
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
        let content = if let Change::Text(edit) = change { edit(&text) } else { text.into_bytes() };
        judge(&self.keys, &root, content)
    }
}

/// Judges a bundle about [`subject`] with these keys and this trust root.
fn judge(keys: &[Key], root: &Value, content: Vec<u8>) -> Findings {
    let keys = keys.iter().map(|key| VerificationKey::from_pem(&key.pem()).expect("a public key")).collect();
    let trust = Trust { keys, roots: vec![parsed(root)] };
    verify(&subject(), &evidence(vec![with_content(&subject(), content)]), &trust, &Limits::DEFAULT)
}

/// Most cases have the same trust root: the first one that was asked for is kept.
fn parsed(root: &Value) -> Arc<TrustRoot> {
    static FIRST: OnceLock<(Value, Arc<TrustRoot>)> = OnceLock::new();
    let parse = || Arc::new(TrustRoot::parse(root.to_string().as_bytes(), &Limits::DEFAULT).expect("a trust root"));
    let (first, kept) = FIRST.get_or_init(|| (root.clone(), parse()));
    if root == first { kept.clone() } else { parse() }
}

/// One key of each algorithm for all cases.
fn signing_key(by: By) -> Key {
    static KEYS: [OnceLock<Key>; 8] = [const { OnceLock::new() }; 8];
    let (slot, algorithm) = match by {
        By::Key(algorithm) => (Algorithm::ALL.iter().position(|known| *known == algorithm).expect("listed"), algorithm),
        By::Certificate => (7, Algorithm::P256),
    };
    KEYS[slot].get_or_init(|| Key::new(algorithm)).clone()
}

fn statement() -> Value {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "r.example.com/app", "digest": {"sha256": subject().hex()}}],
        "predicateType": COSIGN_SIGN, "predicate": {"note": "the predicate"}})
}

fn material(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]
}

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

fn remove(value: &mut Value, key: &str) -> Value {
    value.as_object_mut().expect("an object").remove(key).expect(key)
}

/// The value, in base64, with its last byte's last bit the other way round.
fn flip(value: &mut Value) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut bytes = STANDARD.decode(value.as_str().expect("text")).expect("base64");
    *bytes.last_mut().expect("bytes") ^= 1;
    *value = STANDARD.encode(bytes).into();
}

fn faults() -> impl Iterator<Item = &'static Fault> {
    [envelope::FAULTS, document::FAULTS, certificate::FAULTS, log::FAULTS, proof::FAULTS, time::FAULTS].into_iter().flatten()
}

fn found(findings: &Findings) -> Result<&Verified<Statement>, Reason> {
    match (&findings.verified[..], &findings.rejected[..]) {
        ([verified], []) => Ok(verified),
        ([], [rejected]) => Err(rejected.reason),
        other => panic!("one candidate, one answer: {other:?}"),
    }
}

#[test]
fn every_material_with_every_evidence_holds_and_says_who_and_when() {
    for shape in Shape::all() {
        let case = Case::new(shape);
        let (signer, time) = (case.signer(shape), case.time(shape));
        let findings = case.judge(&Change::Make(|_| ()));
        let verified = found(&findings).unwrap_or_else(|_| panic!("{shape:?}: {}", findings.rejected[0].message));
        assert_eq!((verified.signer(), verified.time(), verified.subject()), (&signer, time, &subject()), "{shape:?}");
        assert_eq!(verified.root().is_some(), shape.keyless(), "{shape:?}");
        assert_eq!(verified.claim().predicate["note"], "the predicate", "{shape:?}");
    }
}

/// Every row in every column where it applies. Says how many there were.
#[test]
fn every_single_fault_has_its_one_reason() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for shape in Shape::all() {
        let case = Case::new(shape);
        let plain = case.recipe.bundle(&case.sigstore);
        for fault in faults().filter(|fault| (fault.applies)(shape)) {
            cases += 1;
            let findings = case.clone().judge_from(&plain, &fault.change);
            let is = found(&findings).map_or_else(Expected::Refused, |_| Expected::Holds);
            if is != fault.expected(shape) {
                let why = findings.rejected.first().map_or("", |rejected| rejected.message.as_str());
                wrong.push(format!("{shape:?}: {}: expected {:?}, is {is:?}: {why}", fault.name, fault.expected(shape)));
            }
        }
    }
    println!("{cases} cases of {} faults", faults().count());
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases > 1_500, "only {cases} cases");
}

#[test]
fn every_fault_has_a_name_of_its_own_and_applies_somewhere() {
    let mut names = std::collections::HashSet::new();
    for fault in faults() {
        assert!(names.insert(fault.name), "{} is there twice", fault.name);
        assert!(Shape::all().into_iter().any(fault.applies), "{} applies to nothing", fault.name);
    }
}
