//! Quotas over made-up states: what counts, and who is told what.

use super::*;

#[test]
fn values_read_as_they_are_written() {
    let cases = [
        (Dimension::Apps, "20", 20),
        (Dimension::Memory, "64Gi", 64 << 30),
        (Dimension::InstanceMemory, "1536Mi", 1536 << 20),
        (Dimension::Cpu, "2", 2000),
        (Dimension::Cpu, "1.5", 1500),
        (Dimension::Cpu, "0.25", 250),
    ];
    for (dimension, text, value) in cases {
        assert_eq!(dimension.parse_value(text), Ok(value), "{text}");
        assert_eq!(dimension.format(value), text);
    }
    for (dimension, text) in [
        (Dimension::Apps, "-1"),
        (Dimension::Apps, "many"),
        (Dimension::Memory, "64"),
        (Dimension::Cpu, "-1"),
        (Dimension::Cpu, "NaN"),
        (Dimension::Cpu, "1e300"),
    ] {
        assert!(dimension.parse_value(text).is_err(), "{text}");
    }
}

#[test]
fn every_dimension_goes_by_its_code() {
    for dimension in Dimension::ALL {
        assert_eq!(dimension.code().parse(), Ok(*dimension));
        let json = serde_json::to_string(dimension).unwrap();
        assert_eq!(json, format!("\"{dimension}\""));
    }
    let unknown = "buckets".parse::<Dimension>().unwrap_err();
    assert!(unknown.contains("instances"), "{unknown}");
}

#[test]
fn shares_are_rounded_down_and_never_overflow() {
    assert_eq!(percent(0, 10), 0);
    assert_eq!(percent(79, 100), 79);
    assert_eq!(percent(2, 3), 66);
    assert_eq!(percent(u64::MAX, u64::MAX), 100);
    assert_eq!(percent(0, 0), 100);
}

#[test]
fn an_orgs_own_limit_wins_and_can_be_taken_back() {
    let mut limits = Limits::default();
    let org: Id<Org> = Id::new(crate::Timestamp(1), 1);
    let set = |org, limit| QuotaSet { org, limits: [(Dimension::Apps, limit)].into() };
    let of = |limits: &Limits| limits.of(Some(org), Dimension::Apps);
    assert_eq!(of(&limits), (Dimension::Apps.built_in(), Source::BuiltIn));
    limits.set(&set(None, Some(7)));
    assert_eq!(of(&limits), (7, Source::Installation));
    limits.set(&set(Some(org), Some(9)));
    assert_eq!(of(&limits), (9, Source::Org));
    limits.set(&set(Some(org), None));
    assert_eq!(of(&limits), (7, Source::Installation));
    limits.set(&set(None, None));
    assert_eq!(limits, Limits::default(), "nothing is left of it");
}
