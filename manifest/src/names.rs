//! Names as DNS has them, which Kubernetes gives to most things.

/// The longest label (RFC 1123).
const MAX_LABEL: usize = 63;

/// The longest subdomain (RFC 1123).
const MAX_SUBDOMAIN: usize = 253;

/// Whether a name is a DNS label (RFC 1123): lower-case letters, digits and inner hyphens, 63 at most.
pub fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_part(name)
}

/// Whether a name is a DNS subdomain (RFC 1123) as Kubernetes takes it: parts of lower-case letters, digits and inner
/// hyphens, joined by dots, 253 characters at most.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_SUBDOMAIN && name.split('.').all(is_part)
}

fn is_part(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let long = "a".repeat(64);
        for (name, label, subdomain) in [
            ("kube-system", true, true),
            ("a.b-c", false, true),
            (&long, false, true),
            ("", false, false),
            ("a..b", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("Shop", false, false),
            ("a_b", false, false),
        ] {
            assert_eq!((is_label(name), is_subdomain(name)), (label, subdomain), "{name:?}");
        }
        assert!(!is_subdomain(&"a.".repeat(127)));
    }
}
