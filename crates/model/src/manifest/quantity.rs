//! Sizes as people write them: `256Mi`, `1Gi`.

const MEBI: u64 = 1 << 20;
const GIBI: u64 = 1 << 30;

/// Parses a whole number of `Mi` or `Gi` to bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.split_at_checked(text.len().checked_sub(2)?)? {
        (digits, "Mi") => (digits, MEBI),
        (digits, "Gi") => (digits, GIBI),
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Bytes in the largest unit that divides them, the inverse of parsing.
pub fn format_bytes(bytes: u64) -> String {
    if bytes >= GIBI && bytes.is_multiple_of(GIBI) {
        format!("{}Gi", bytes / GIBI)
    } else {
        format!("{}Mi", bytes / MEBI)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_bytes("64Mi"), Some(64 << 20));
        assert_eq!(parse_bytes("2Gi"), Some(2 << 30));
        for bad in ["", "Mi", "64", "64mb", "-1Mi", "1.5Gi", "99999999999999999999Mi", "1Ti", "ä"]
        {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(format_bytes(2 << 30), "2Gi");
        assert_eq!(format_bytes(1536 << 20), "1536Mi");
    }
}
