//! The format as its description has it, and nothing of a value in what is said.

use proptest::prelude::*;

use super::*;

fn secrets(pairs: &[(&str, &[u8])]) -> Secrets {
    let pairs = pairs.iter().map(|(key, value)| (key.parse().unwrap(), Value::new(*value)));
    Secrets(pairs.collect())
}

fn text(secrets: &Secrets) -> String {
    String::from_utf8(secrets.canonical().unwrap().to_vec()).unwrap()
}

fn refusal(file: &str) -> String {
    parse(file.as_bytes()).unwrap_err().to_string()
}

fn key() -> impl Strategy<Value = Key> {
    "[A-Z_][A-Z0-9_]{0,20}".prop_map(|text| text.parse().unwrap())
}

/// Bytes of every sort, with those that a naive form gets wrong among them.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Value::new),
        ".{0,100}".prop_map(Value::new),
        "base64:.{0,40}".prop_map(Value::new),
        "[ \t=#\r\n\0]{0,20}".prop_map(Value::new),
        (8000_usize..9000).prop_map(|length| Value::new("ä".repeat(length / 2))),
    ]
}

proptest! {
    #[test]
    fn the_canonical_file_reads_back_as_the_same_values(
        pairs in proptest::collection::btree_map(key(), value(), 0..12)
    ) {
        let secrets = Secrets(pairs);
        let file = secrets.canonical().unwrap();
        let read = parse(&file).unwrap();
        prop_assert_eq!(&read, &secrets);
        prop_assert_eq!(read.canonical().unwrap(), file);
    }

    #[test]
    fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let with_header = [HEADER.as_bytes(), b"\n", &bytes].concat();
        for file in [bytes, with_header] {
            if let Ok(read) = parse(&file) {
                prop_assert_eq!(parse(&read.canonical().unwrap()).unwrap(), read);
            }
        }
    }
}

#[test]
fn a_file_is_read_as_it_is_written() {
    let file = "\n\n# HELIX_SECRETS_V1\n# a note\n\nB= spaces = kept \nA=base64:AAECAw==\r\nC=\n";
    let read = parse(file.as_bytes()).unwrap();
    assert_eq!(read, secrets(&[("A", &[0, 1, 2, 3]), ("B", b" spaces = kept "), ("C", b"")]));
    assert_eq!(text(&read), "# HELIX_SECRETS_V1\nA=base64:AAECAw==\nB= spaces = kept \nC=\n");
    assert_eq!(text(&Secrets::default()), "# HELIX_SECRETS_V1\n");
}

#[test]
fn what_would_be_read_back_as_something_else_is_encoded() {
    let long = "x".repeat(PLAIN_BYTES_MAX + 1);
    let read = secrets(&[
        ("LINES", b"a\nb"),
        ("LOOKS", b"base64:AAAA"),
        ("LONG", long.as_bytes()),
        ("PLAIN", "grüße".as_bytes()),
    ]);
    let file = text(&read);
    for line in file.lines().skip(1) {
        let encoded = line.split_once('=').unwrap().1.starts_with("base64:");
        assert_eq!(encoded, !line.starts_with("PLAIN"), "{line}");
    }
    assert_eq!(parse(file.as_bytes()).unwrap(), read);
}

#[test]
fn every_mistake_has_its_own_words_and_none_repeats_a_value() {
    let secret = "hunter2hunter2";
    let cases = [
        (String::new(), "line 1 is not"),
        (format!("A={secret}\n"), "line 1 is not"),
        (format!(" {HEADER}\nA={secret}\n"), "line 1 is not"),
        (format!("{HEADER}\n{secret}\n"), "line 2 has no `=`"),
        (format!("{HEADER}\n{secret}==\n"), "line 2 does not begin with a key"),
        (format!("{HEADER}\nA={secret}\nA={secret}\n"), "line 3: `A` is set twice"),
        (format!("{HEADER}\nA={secret}\rB\n"), "line 2 has a carriage return"),
        (format!("{HEADER}\nA={secret}\r"), "line 2 has a carriage return"),
        (format!("{HEADER}\nA=base64:{secret}\n"), "line 2: what follows `base64:` in `A`"),
        (format!("{HEADER}\nA=base64:aHVu dGVy\n"), "line 2: what follows `base64:` in `A`"),
        (format!("{HEADER}\nA={secret}\0\n"), "line 2: `A` has a NUL"),
        (format!("{HEADER}\n{}={secret}\n", "K".repeat(129)), "line 2 does not begin with a key"),
    ];
    for (file, expected) in cases {
        let said = refusal(&file);
        assert!(said.starts_with(expected), "{said}");
        assert!(!said.contains("hunter"), "{said}");
    }
    let mut bytes = format!("{HEADER}\nA=").into_bytes();
    bytes.push(0xff);
    assert_eq!(parse(&bytes).unwrap_err(), SecretFileError::NotUtf8 { line: 2 });
}

#[test]
fn limits_name_the_key_that_exceeds_them() {
    let plain = format!("{HEADER}\nBIG={}\n", "x".repeat(PLAIN_BYTES_MAX + 1));
    assert!(refusal(&plain).starts_with("`BIG` has 8193 bytes of plain text"));
    let encoded = BASE64_STANDARD.encode(vec![7; VALUE_BYTES_MAX + 1]);
    assert!(refusal(&format!("{HEADER}\nBIG=base64:{encoded}\n")).starts_with("`BIG` has 65537"));
    let many: String = (0..=KEYS_MAX).map(|number| format!("K{number}=\n")).collect();
    assert!(refusal(&format!("{HEADER}\n{many}")).starts_with("there are 257 keys"));
    assert!(refusal(&"x".repeat(FILE_BYTES_MAX + 1)).starts_with("the file has"));
    // Each fits, together they do not.
    let big = vec![7; VALUE_BYTES_MAX];
    let pairs: Vec<_> = ["A", "B", "C"].map(|key| (key, big.as_slice())).to_vec();
    let error = secrets(&pairs).canonical().unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("C"));
    let error = secrets(&[("A", &vec![7; VALUE_BYTES_MAX + 1])]).canonical().unwrap_err();
    assert_eq!(error.key().map(Key::as_str), Some("A"));
}

#[test]
fn nothing_shows_a_value() {
    let shown = secrets(&[("A", b"hunter2")]);
    assert_eq!(shown.masked(), "# HELIX_SECRETS_V1\nA=<7 bytes>\n");
    assert!(!format!("{shown:?}").contains("hunter2"));
}
