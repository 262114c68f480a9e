//! Generated sections of documents.

use std::{fs, path::Path};

/// Compares the section `name` of a document, between `<!-- NAME: generated … -->` and
/// `<!-- end of NAME -->`, with `expected`; with PACKGATE_WRITE_GOLDEN=1 writes it anew.
pub(crate) fn golden_section(document: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).expect("readable");
    let (begin, end) = (
        format!("<!-- {name}: generated"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text.split_once(&begin).expect("the section begins");
    let (marker, rest) = rest.split_once("-->\n").expect("the marker ends");
    let (section, after) = rest.split_once(&end).expect("the section ends");
    if std::env::var_os("PACKGATE_WRITE_GOLDEN").is_some() {
        let text = format!("{before}{begin}{marker}-->\n\n{expected}\n{end}{after}");
        return fs::write(&path, text).expect("writable");
    }
    assert_eq!(
        section.trim(),
        expected.trim(),
        "{document}: PACKGATE_WRITE_GOLDEN=1 writes the section {name} anew"
    );
}
