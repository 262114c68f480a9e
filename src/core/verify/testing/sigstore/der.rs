//! As much DER as certificates and timestamps need (X.690): a writer, and a reader of one level.

/// One element: tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    if content.len() > 127 {
        element.push(0x80 | u8::try_from(significant.len()).expect("at most eight"));
    }
    element.extend(if content.is_empty() {
        vec![0]
    } else {
        significant
    });
    element.extend_from_slice(content);
    element
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// `SET OF`: sorted by encoding.
pub(crate) fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(0x31, &parts.concat())
}

/// `[number]`, constructed.
pub(crate) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

pub(crate) fn integer(value: u8) -> Vec<u8> {
    tlv(0x02, &[value])
}

pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    tlv(0x04, content)
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs[0] * 40 + arcs[1];
    for arc in std::iter::once(&first).chain(&arcs[2..]) {
        let groups = (0..10)
            .rev()
            .map(|group| (arc >> (7 * group)) & 0x7f)
            .skip_while(|bits| *bits == 0);
        let mut bytes: Vec<u8> = groups
            .map(|bits| 0x80 | u8::try_from(bits).expect("seven bits"))
            .collect();
        match bytes.last_mut() {
            Some(last) => *last &= 0x7f,
            None => bytes.push(0),
        }
        content.extend(bytes);
    }
    tlv(0x06, &content)
}

/// `AlgorithmIdentifier` without parameters.
pub(crate) fn algorithm(arcs: &[u64]) -> Vec<u8> {
    sequence(&[oid(arcs)])
}

/// `GeneralizedTime` of a Unix time in seconds.
pub(crate) fn generalized_time(seconds: i64) -> Vec<u8> {
    let time = jiff::Timestamp::from_second(seconds).expect("a time");
    tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
}

/// The elements inside the first element of `der`, each with its header.
pub(crate) fn children(der: &[u8]) -> Vec<&[u8]> {
    let (header, length) = header(der);
    let mut rest = &der[header..header + length];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (header, length) = self::header(rest);
        let (element, after) = rest.split_at(header + length);
        found.push(element);
        rest = after;
    }
    found
}

fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let bytes = usize::from(long & 0x7f);
            (
                2 + bytes,
                der[2..2 + bytes]
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte)),
            )
        }
    }
}
